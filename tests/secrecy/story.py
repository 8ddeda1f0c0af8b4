"""One story on the real stack, looked through for secrets at each of its moments."""
import base64
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tapped import Revealed, TappedStack  # and the rooms of the next ones
import taps
import zbcodec
from coapclient import ACCEPT, BLOCK2, CBOR, CONTENT_FORMAT, DELETE, GET, JSON, POST, TY, URI_QUERY, CoapClient, uint
from household import Household
from needles import Secret
from plants import Planter
from provisioning import Provisioning
from search import Search
from visitor import Visitor, cbor_map
from stack import ADMIN, AE_ID, StackError, http_get, write_private

DEPOSITOR = "//example.org/in-cse/Cdepositor"
SYMM_KEY_REG = 60004


class Story:
    """work: a folder of its own, where cores would fall. seed: of everything random here; mefd makes keys of its own, and hands
    them over."""

    def __init__(self, build: Path, work: Path, seed: str):
        self.rng, self.work = random.Random(seed), work
        self.search = Search(build / "tests" / "secrecy" / "secrecy-scan")
        self.planter = Planter(self.rng, self.search)
        self.moments, self.legitimate, self.planted, self.leaks, self.blind = 0, 0, 0, [], []
        self.control = False  # a core of a program that does not mind was seen
        self.revealed = Revealed(work / "secrets.fifo")
        self.stack = TappedStack(build, work / "system", work / "captures")
        self.devices, self.household, self.provisioning = {}, Household(self), Provisioning(self)

    # --- secrets -----------------------------------------------------------------------------------------------------

    def secret(self, name: str, value: bytes, *holders: str, wanted: tuple = ()):
        self.search.add(Secret(name, value, set(holders), set(wanted)))

    def code_secrets(self, name: str, code: bytes, *holders: str):
        """An install code (with CRC) and all that is made from it, by the second opinion's arithmetic."""
        self.secret(f"{name}-install-code", code[:-2], *holders)
        if len(code) == 18:  # the hash's state before its last block, the CRC: as good as the link key
            self.secret(f"{name}-hash-state", zbcodec.mmo_step(bytes(16), code[:16]), *holders)
        self.link_key_secrets(name, zbcodec.mmo(code), *holders)

    def link_key_secrets(self, name: str, key: bytes, *holders: str):
        self.secret(f"{name}-link-key", key, *holders)
        for what, byte in (("key-transport-key", b"\x00"), ("key-load-key", b"\x02"), ("verify-key-hash", b"\x03")):
            self.secret(f"{name}-{what}", zbcodec.keyed_hash(key, byte), *holders)

    def take_revealed(self, joined: str = "memory:joiner"):
        """What came into the vault under names not known yet. None of it may be anywhere, unless said otherwise. joined: the
        device that has joined since it was asked last."""
        known = {s.value for s in self.search.secrets.values()}
        for (kind, key_id), value in self.revealed.all().items():
            if value in known:
                continue
            if kind == "trust-centre-link-key":  # the device has its own, and what is made from it
                self.link_key_secrets(f"vault-{key_id}", value, joined)
            else:
                holders = {"K": ("memory:mefd", "file:mef/kek"), "M": ("memory:mefd",), "vault-root": ("memory:mefd",)}.get(kind, ())
                self.secret(f"vault-{kind}-{key_id}", value, *holders)

    def install_code(self, length: int = 16) -> bytes:
        code = self.rng.randbytes(length)
        return code + zbcodec.install_code_crc(code)

    def eui64(self) -> str:
        return "00158d" + self.rng.randbytes(5).hex()

    # --- looking -----------------------------------------------------------------------------------------------------

    def processes(self) -> dict:
        return {p.name: p.pid for p in self.stack.processes if p.running() and p.name not in ("events", "sniffer")}

    def targets(self) -> dict:
        out = {}
        for name, pid in self.processes().items():
            out |= {f"memory:{name}": f"mem:{pid}", f"environ:{name}": f"file:/proc/{pid}/environ",
                    f"argv:{name}": f"file:/proc/{pid}/cmdline"}
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    path = fd.readlink()
                    if path.is_file() and self.stack.folder not in path.parents:
                        out[f"open-file:{name}:{path}"] = f"file:{path}"
        for path in self.stack.folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                out[f"file:{path.relative_to(self.stack.folder)}"] = f"file:{path}"
        return out

    def moment(self, name: str, more: dict | None = None):
        """Look everywhere. What a process held only for the act under way is gone when looked for again."""
        self.take_revealed()
        self.moments += 1
        targets = self.targets() | (more or {})
        finds = self.search.look(targets)
        leaks = self.search.leaks(finds)
        if any(f.place.startswith("memory:") for f in leaks):
            time.sleep(0.25)
            memories = {p: t for p, t in self.targets().items() if p.startswith("memory:")}
            again = {(f.place, f.secret, f.spelling) for f in self.search.look(memories)}
            leaks = [f for f in leaks if not f.place.startswith("memory:") or (f.place, f.secret, f.spelling) in again]
        self.legitimate += len({(f.place, f.secret) for f in finds if not f.secret.startswith("planted:")})
        self.planted += self.planter.count(targets)
        self.leaks += [f"{name}: {f}" for f in leaks]
        self.blind += [f"{name}: not found: {b}" for b in self.search.unseen(finds, targets) + self.planter.missed(finds, targets)]

    # --- the story ---------------------------------------------------------------------------------------------------

    def begin(self):
        """mefd, credentials, gateway; who listens: to the audit trail, to the air."""
        s = self.stack
        self.planter.environment()
        os.environ |= {"MEF_TEST_SECRETS": str(self.work / "secrets.fifo"), "SSLKEYLOGFILE": str(self.work / "tls.keys")}
        s.init({("eg", "allow-short-install-codes"): "yes", ("daemon", "log-level"): self.rng.choice(("debug", "info"))})
        self.provisioning.prepare()
        s.start_mefd()
        s.make_credentials()
        s.start_gateway()
        self.planter.started("mefd", "zbgwd", "ipe-nid")
        self.planter.holder(s)
        self.kpm = self.rng.randbytes(32)
        self.depositor = s.must("POST", "/v1/credentials", {"for": DEPOSITOR, "kind": "psk", "kpm": self.kpm.hex()})
        s.spawn("events", ["curl", "-sSN", "--cacert", s.ca, "-H", f"@{s.token_header}", "-H",
                           "Accept: text/event-stream", s.https_uri + "/v1/events"])
        self._sniff()
        self.secret("kek", (s.etc / "kek").read_bytes(), "memory:mefd", "file:mef/kek", wanted=("memory:mefd", "file:mef/kek"))
        self.secret("admin-token", s.token().encode(), "file:mef/admin.token", "file:authorization",
                    wanted=("file:mef/admin.token",))
        self.secret("tls-private-key", self.private_value(s.etc / "server.key"), "memory:mefd", "file:mef/server.key", wanted=("memory:mefd",))
        self.secret("kpm-of-the-gateway", bytes.fromhex(s.gw_credential["kpm"]), "file:gateway.psk", wanted=("file:gateway.psk",))
        self.secret("kpm-of-the-ae", bytes.fromhex(s.ae["kpm"]), "file:*.psk", "memory:mefkey-*")
        self.secret("kpm-of-the-depositor", self.kpm)
        self.planter.names(s)

    @staticmethod
    def private_value(key: Path) -> bytes:
        done = subprocess.run(["openssl", "pkey", "-in", key, "-noout", "-text"], check=True, capture_output=True, text=True)
        digits = done.stdout.partition("priv:")[2].partition("pub:")[0]
        return bytes.fromhex("".join(c for c in digits if c in "0123456789abcdef"))[-32:]

    def _sniff(self):
        ready, listening = os.pipe()
        os.set_inheritable(listening, True)
        self.stack.sniff(self.stack.captures / "radio.pcap", listening)
        os.close(listening)
        if os.read(ready, 1) != b"\n":
            raise StackError("the sniffer does not listen")
        os.close(ready)

    def register(self):
        """Codes by every way in: as printed, by label, as link key, a short one, one with a typing error, one known already."""
        s, digits = self.stack, lambda b: b.hex().upper()
        self.eui, self.code = self.eui64(), self.install_code()
        printed = " ".join(digits(self.code)[i:i + 4] for i in range(0, 36, 4))
        s.register_code(self.eui, printed)
        self.code_secrets("device", self.code, "memory:joiner")
        s.register_code(self.eui, digits(self.code))  # the same again
        labelled, by_label = self.eui64(), self.install_code()
        label = f"Z:{labelled.upper()}$I:{digits(by_label)}"
        s.must("POST", "/v1/install-codes", {"label": label, "targets": [AE_ID]})
        self.expect(409, "POST", "/v1/install-codes", {"label": label})
        self.code_secrets("labelled", by_label)
        keyed, link_key = self.eui64(), self.rng.randbytes(16)
        s.must("PUT", f"/v1/install-codes/{keyed}", {"linkKey": link_key.hex(), "targets": [AE_ID]})
        self.link_key_secrets("keyed", link_key)
        short, short_code = self.eui64(), self.install_code(self.rng.choice((8, 12)))
        s.register_code(short, digits(short_code))
        self.code_secrets("short", short_code)
        wrong = bytearray(self.install_code())
        wrong[-1] ^= 0x40
        self.expect(400, "PUT", f"/v1/install-codes/{self.eui64()}", {"installCode": digits(wrong)})
        self.expect(400, "PUT", f"/v1/install-codes/{self.eui64()}", {"installCode": digits(wrong) + "0"})
        self.expect(400, "PUT", f"/v1/install-codes/{self.eui64()}", '{"installCode":"' + digits(wrong) + '","zap":')
        self.secret("mistyped-code", bytes(wrong[:-2]))
        self.registered = [self.eui, labelled, keyed, short]
        self._register_by_visitors()

    def _register_by_visitors(self):
        """In CBOR, in chunks of seven bytes, one after the other on a connection that stays open; and cut in the middle."""
        self.visitor = Visitor(self.stack)
        for how in ({"media": "application/cbor"}, {"chunks": True}, {}):
            eui, code = self.eui64(), self.install_code()
            body = {"installCode": code.hex(), "targets": [AE_ID]}
            self.visitor.must("PUT", f"/v1/install-codes/{eui}", cbor_map(body) if "media" in how else body, **how)
            self.code_secrets(f"visitor-{len(self.registered)}", code)
            self.registered.append(eui)
        kpm = self.rng.randbytes(32)
        self.secret("kpm-by-visitor", kpm)
        body = {"for": "//example.org/in-cse/Cvisitor", "kind": "psk", "kpm": kpm.hex()}
        self.visitor.must("POST", "/v1/credentials", cbor_map(body), once=kpm.hex().encode(), media="application/cbor")
        for cut in (1, 20, 120):
            code, visitor = self.install_code(), Visitor(self.stack)
            visitor.send("PUT", f"/v1/install-codes/{self.eui64()}", json.dumps({"installCode": code.hex()}).encode(), cut=cut)
            visitor.close()
            self.secret(f"cut-code-{cut}", code[:-2])

    def expect(self, status: int, method: str, path: str, body):
        got, answer = self.stack.rest(method, path, body)
        if got != status:
            raise StackError(f"{method} {path}: {got}, not {status}: {answer}")

    def join(self, *options):
        """The device joins, by the radio; its key is legitimately in itself."""
        s, out = self.stack, self.work / f"device{len(self.devices)}.key"
        joiner = s.join(self.eui, self.code.hex(), "--attempts", "40", "--report", "0x0402/0/s16/2150/0.4", "--key-out", out, *options)
        if joiner.wait_event(60, event="joined") is None:
            raise StackError("the device did not join:\n" + joiner.tail())
        s.wait_state(self.eui, "enrolled", 60)
        if joiner.wait_event(5, event="reported") is None:
            raise StackError("the device does not report:\n" + joiner.tail())
        self.planter.started("joiner")
        self.joiner, self.key_file = joiner, out
        self._took_key()

    def _took_key(self, *gone: str):
        """The device's newest key, which takes the place of the one before; `gone` may have that in memory not used again."""
        key = bytes.fromhex(self.key_file.read_text())
        name = f"network-key-{len(self.devices)}"
        if key not in self.revealed.all().values():
            raise StackError("the device's key is none of those that came into the vault")
        for old in self.devices:  # mefkey follows the device to its new key, and forgets the old one
            self.search.secrets[old].wanted, self.search.secrets[old].holders = set(), set(gone)
        self.devices[name] = key
        self.secret(name, key, "memory:joiner", "memory:mefkey-open", wanted=("memory:joiner",))

    def ae(self, *args) -> str:
        status, out, err = self.stack.mefkey(*args)
        if status != 0:
            raise StackError(f"mefkey {args[0]}: {status} {err}")
        return out

    def retrieve(self):
        """The AE as a program that goes on, and as a stranger whose answers are looked at."""
        s, name = self.stack, f"network-key-{len(self.devices) - 1}"
        self.ae("register", "--admin-fqdn", ADMIN)
        key_id = self.ae("find", self.eui)
        self.ae("get", self.eui, "--out", self.work / "ae.key")
        if bytes.fromhex((self.work / "ae.key").read_text()) != self.devices[name]:
            raise StackError("the AE's key is not the device's")
        self.follow = s.follow(self.eui)
        if self.follow.wait_event(10, cluster=0x0402) is None:
            raise StackError("the AE opens no frame:\n" + self.follow.tail())
        self.search.secrets[name].wanted.add("memory:mefkey-open")
        self.planter.started("mefkey-open")
        client = CoapClient(s.dtls.port, s.ae["kpmId"], s.ae["kpm"])
        for media in (JSON, CBOR, JSON):
            answer = client.request(GET, f"mef/{key_id}", [(ACCEPT, uint(media))], origin=AE_ID)
            self._told("GET of the key", answer, self.devices[name])
        for path, options in (("mef", [(URI_QUERY, b"fu=1"), (URI_QUERY, f"lbl=eui64:{self.eui}".encode())]), ("mef", []),
                              (f"mef/eg/devices/{self.eui}", []), ("mef/" + "00" * 16, [])):
            self._told(f"GET {path}", client.request(GET, path, [(ACCEPT, uint(JSON)), *options], origin=AE_ID))
        self._told("the first block", self._block(client, key_id, 0, 0))  # nobody asks for the others
        told = block = self._block(client, key_id, 0, 2)
        while block.options[BLOCK2][0][-1] & 8:
            block = self._block(client, key_id, len(told.payload) // 64, 2)
            told.payload += block.payload
        self._told("GET of the key in blocks", told, self.devices[name])
        client.close()
        self._deposit()

    @staticmethod
    def _block(client, key_id: str, number: int, size: int):
        return client.request(GET, f"mef/{key_id}", [(ACCEPT, uint(JSON)), (BLOCK2, uint(number << 4 | size))], origin=AE_ID)

    def _told(self, title: str, answer, key: bytes | None = None):
        if answer is None:
            raise StackError(f"{title}: no answer")
        options = b" ".join(v for values in answer.options.values() for v in values)
        self.told("coap", f"{title}: {answer.dotted} {answer.rsc}", answer.payload, options, *(() if key is None else (key,)))

    def told(self, kind: str, title: str, body: bytes, beside: bytes, *keys: bytes):
        """Write an answer down, and what came beside its body; each key may stand there once, where the protocol puts it."""
        for key in keys:
            without = body
            for form in (base64.b64encode(key), key):
                without = without.replace(form, b"(as it should be)", 1)
            if without == body:
                raise StackError(f"{title} holds no key")
            body = without
        self.stack.answer(kind, title, (body + b" " + beside).decode("latin-1"))

    def _deposit(self):
        """Keys of an AE's own making: one that it sends, one that both ends take from the session."""
        client = CoapClient(self.stack.dtls.port, self.depositor["kpmId"], self.kpm.hex())
        options = [(CONTENT_FORMAT, uint(JSON)), (ACCEPT, uint(JSON))]
        body = {"et": "20991231T000000", "adfq": ADMIN, "srci": DEPOSITOR}
        self._told("register", client.request(POST, "mef", [*options, (TY, uint(60002))], json.dumps(
            {"sec:mecr": {"et": body["et"], "adfq": ADMIN}}).encode(), origin=DEPOSITOR))
        self.deposits, labels = [], self.planter.labels("label", "capture:answers.coap", "memory:mefd")
        for n in range(4):
            more = {"lbl": labels[n::4]}  # an answer is to fit in one block
            if n > 0:
                sent = self.rng.randbytes(self.rng.choice((16, 32, 64)))
                self.secret(f"deposited-key-{n}", sent)
                more["kv"] = base64.b64encode(sent).decode()
            text = json.dumps({"sec:skr": {"et": body["et"], "adfq": ADMIN, "tgis": [AE_ID], "suid": 22, **more}})
            answer = client.request(POST, "mef", [*options, (TY, uint(SYMM_KEY_REG))], text.encode(), origin=DEPOSITOR)
            if answer is None or answer.rsc != 2001:
                raise StackError(f"the deposit was refused: {answer and (answer.dotted, answer.rsc, answer.payload)}")
            reg = json.loads(answer.payload)["sec:skr"]
            self.deposits.append(f"mef/{reg['ri']}")
            shown = base64.b64decode(reg["kv"]) if "kv" in reg else None
            self._told("deposit", answer, shown)
        client.close()

    def command(self):
        self.ae("send", self.eui, "--cluster", "0x0006", "--command", "1")
        if self.joiner.wait_event(8, event="on-off", on=True) is None:
            raise StackError("the device did not obey:\n" + self.joiner.tail())
        self.ae("ticket", self.eui, "--count", "3")

    def read_everything(self):
        """All that an operator, a monitor, or somebody without a right is told."""
        s = self.stack
        for path in ("install-codes", "gateways", "devices", "applications", "credentials", "audit?limit=1000", "nonsense"):
            s.rest("GET", f"/v1/{path}")
        for kind, name in (("install-codes", self.eui), ("devices", self.eui), ("gateways", s.gateway_eui),
                           ("credentials", s.ae["kpmId"])):
            s.rest("GET", f"/v1/{kind}/{name}")
        for path in ("/metrics", "/healthz", "/readyz"):
            s.answer("status", path, http_get(s.status, path))
        wrong = write_private(self.work / "wrong", "Authorization: Bearer nonsense\n")
        s.rest("GET", "/v1/devices", token_header=wrong)

    def rejoin(self):
        """The device was reset, and joins again: another key, and nobody keeps the first."""
        s = self.stack
        self.joiner.stop(signal.SIGKILL)
        s.processes.remove(self.joiner)
        s.must("POST", f"/v1/devices/{self.eui}/rearm", {})
        self.join(*self.rng.choice(([], ["--sleepy"], ["--router"], ["--rejoin", "secured"])))
        self._followed()

    def _followed(self):
        """The AE has come to the newest key."""
        while self.follow.wait_event(0, cluster=0x0402) is not None:
            pass  # readings under the old key
        if self.follow.wait_event(20, cluster=0x0402) is None:
            raise StackError("the AE opens no frame under the new key:\n" + self.follow.tail())
        self.search.secrets[f"network-key-{len(self.devices) - 1}"].wanted.add("memory:mefkey-open")

    def lose_key(self):
        """The device has lost its network key, and asks for another by its link key. The simulated one, which is no part of
        the product, may still have the lost one in memory that it does not use."""
        s = self.stack
        self.joiner.stop(signal.SIGKILL)
        s.processes.remove(self.joiner)
        s.must("POST", f"/v1/devices/{self.eui}/rearm", {})
        self.join("--rejoin", "trust-centre", "--rejoin-after", "12", *self.rng.choice(([], ["--sleepy"])))
        self._followed()
        for event in ("rejoined", "joined", "reported"):
            if self.joiner.wait_event(20, event=event) is None:
                raise StackError(f"the device has not {event}:\n" + self.joiner.tail())
        self._took_key("memory:joiner")
        self._followed()

    def restart(self):
        self.stack.restart_mefd()
        self.provisioning.over()
        self.stack.wait_gateway()

    def withdraw(self):
        """Everything is taken back: the device's key, the codes, the deposits, the credentials."""
        s = self.stack
        client = CoapClient(s.dtls.port, self.depositor["kpmId"], self.kpm.hex())
        for path in self.deposits:
            self._told("DELETE of a deposit", client.request(DELETE, path, origin=DEPOSITOR))
        client.close()
        self.visitor.close()
        self.planter.forget("label", "memory:mefd")
        self.provisioning.withdraw()
        self.household.move_out()
        s.must("POST", f"/v1/devices/{self.eui}/revoke", {})
        for p in (self.joiner, self.follow):
            p.stop(signal.SIGKILL)
            s.processes.remove(p)
        for eui in self.registered:
            s.must("DELETE", f"/v1/install-codes/{eui}")
        for credential in (s.ae, self.depositor):
            s.must("DELETE", f"/v1/credentials/{credential['kpmId']}")
        s.mefd.child.send_signal(signal.SIGHUP)
        self.read_everything()

    def end(self):
        """What was written down on the way: every hop, every answer, the secrets of the TLS sessions."""
        s = self.stack
        self.planter.lines(s, s.captures)
        self.planter.radio(s)
        self.planter.files(s)
        time.sleep(0.2)
        self.session_secrets()
        self.open_dtls()
        shutil.copyfile(s.logs / "events.log", s.captures / "answers.events")
        self.planter.answers(s.captures)
        for direction in ("up", "down"):
            data = (s.captures / f"uart.{direction}").read_bytes()
            (s.captures / f"uart.{direction}.unstuffed").write_bytes(taps.unstuffed(data))
        self.moment("ended", {f"capture:{p.name}": f"file:{p}" for p in s.captures.iterdir()})

    def open_dtls(self):
        """What DTLS hid, opened with the keys of its ends: an AE is told its keys there, a gateway none."""
        s = self.stack
        kpm = bytes.fromhex
        for name, key, told in (("gateway", kpm(s.gw_credential["kpm"]), ()), ("ae", kpm(s.ae["kpm"]), ("network-key",)),
                                ("depositor", self.kpm, ("deposited-key",)), *self.provisioning.opened()):
            records = taps.opened_dtls(s.captures / "dtls.pcap", key, self.work / "tshark")
            if len(records) < 8:
                raise StackError(f"tshark opens {len(records)} DTLS records of the {name}")
            (s.captures / f"opened.{name}").write_bytes(b" ".join(records))
            for secret in self.search.secrets.values():
                if told and secret.name.startswith(told):
                    secret.holders.add(f"capture:opened.{name}")
                    secret.wanted.add(f"capture:opened.{name}")
        if b"\x02eg" not in (s.captures / "opened.gateway").read_bytes():  # of Uri-Path mef/eg
            raise StackError("no EG message was opened")

    def session_secrets(self):
        """Of each HTTPS session, from curl's key log: nowhere but in mefd, whose OpenSSL holds them while it lasts."""
        for n, line in enumerate((self.work / "tls.keys").read_text().splitlines()):
            label, _, value = line.split(" ") if line.count(" ") == 2 else ("#", "", "")
            if label in ("EXPORTER_SECRET", "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"):
                self.secret(f"tls-{label}-{n}", bytes.fromhex(value), "memory:mefd")

    def no_core(self):
        """Every program is made to crash where a core could be written; as a control, also one that does not mind."""
        for p in [p for p in self.stack.processes if p.name in ("mefd", "ipe-nid", "zbgwd", "holder")]:
            p.child.send_signal(signal.SIGABRT)
            p.child.wait(20)
            for core in self.work.glob("core*"):
                if p.name == "holder":
                    self.control = True
                else:
                    self.leaks.append(f"crash of {p.name}: it left {core.name}")
                core.unlink()

    def run(self):
        try:
            for act in (self.begin, self.register, self.join, self.retrieve, self.command, self.provisioning.provide, self.household.move_in,
                        self.rejoin, self.lose_key, self.restart, self.withdraw):
                act()
                self.moment(act.__name__)
            self.end()
            self.no_core()
            self.moment("ended for good")
        finally:
            with contextlib.suppress(StackError):
                self.stack.stop()
