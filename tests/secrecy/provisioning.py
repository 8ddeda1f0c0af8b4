"""Provisioning by Mmef (TS-0003 8.3): clients of two stakeholders, over each binding and with each kind of credential, deposit
keys by value and out of their sessions, and get each other's. What both ends derive for themselves is known here, too: in the
system it may be nowhere but where the protocol tells it."""
import base64
import hmac
import json
import re
from types import SimpleNamespace

import onem2m
from coapclient import CBOR, JSON
from mmef import TY_KEY_REG, Client
from pki import Authority
from stack import ADMIN, FQDN, StackError, set_option, write_private

SECOND = "second.example.com"
WAYS = [(binding, kind) for binding in ("coaps", "https") for kind in ("psk", "certificate")]
SUID = 24
EXPORTER = b"EXPORTER-oneM2M-Bootstrap"
SERVER_HELLO = re.compile(rb"(?=\x02\x00..(?:\x03\x03|.{8}\xfe\xfd)(.{32}))", re.S)  # of TLS 1.2, of DTLS 1.2
COMMAND = {"cmdClassID": 2, "cmdArgs": {"devCfgCmdArgs": {"deviceConfigURI": "3:coaps://mef.example.org:5684/dm"}}}


def prf(secret: bytes, seed: bytes, n: int) -> bytes:
    """P_SHA256 (RFC 5246 5)."""
    out, a = b"", seed
    while len(out) < n:
        a = hmac.digest(secret, a, "sha256")
        out += hmac.digest(secret, a + seed, "sha256")
    return out[:n]


class Provisioning:
    def __init__(self, story):
        self.story, self.stack, self.rng = story, story.stack, story.rng
        self.ends = SimpleNamespace(coaps=self.stack.dtls.port, https=self.stack.tls.port)  # the taps in front of mefd
        self.clients, self.keys = [], []

    def prepare(self):
        """Before mefd runs: an authority for certificates, the second stakeholder's operator, what is off by default."""
        s, folder = self.stack, self.story.work / "authority"
        folder.mkdir()
        self.authority = Authority(folder, "clients")
        server, token = self.authority.issue("server", dns=[FQDN], server=True), self.rng.randbytes(24).hex()
        self.second = write_private(self.story.work / "second.header", f"Authorization: Bearer {token}\n")
        for section, key, value in (("coap", "certificate", server.cert), ("coap", "private-key", server.key),
                                    ("coap", "trust-anchors", self.authority.file), ("https", "trust-anchors", self.authority.file),
                                    ("token.second", "admin-fqdn", SECOND), ("token.second", "role", "admin"),
                                    ("token.second", "file", write_private(s.etc / "second.token", token + "\n")),
                                    ("mef", "fetch-credentials", "yes")):
            set_option(s.mefd_conf, section, key, str(value))
        self.story.secret("second-token", token.encode(), "file:mef/second.token", wanted=("file:mef/second.token",))
        self.story.secret("dtls-private-key", self.story.private_value(server.key), "memory:mefd", wanted=("memory:mefd",))

    # --- clients -------------------------------------------------------------------------------------------------------

    def _rest(self, admin: str, method: str, path: str, body=None) -> dict:
        status, answer = self.stack.rest(method, path, body, self.second if admin == SECOND else None)
        if not 200 <= status < 300:
            raise StackError(f"{method} {path}: {status} {answer}")
        return answer

    def _client(self, way: tuple, admin: str) -> Client:
        tag = self.rng.randbytes(6).hex()
        who, log = f"//example.org/in-cse/C{tag}", self.story.work / f"{tag}.keylog"
        made = self._rest(admin, "POST", "/v1/credentials", {"for": who, "kind": way[1]})
        if way[1] == "psk":
            self.story.secret(f"kpm-of-{tag}", bytes.fromhex(made["kpm"]))
            proof = ("-psk_identity", made["kpmId"], "-psk", made["kpm"])
        else:
            pair = self.authority.issue(tag, uris=[who])
            self.story.secret(f"private-key-of-{tag}", self.story.private_value(pair.key))
            proof = ("-cert", str(pair.cert), "-key", str(pair.key))
        client = Client(self.ends, way, who, admin, (*proof, "-keylogfile", str(log)))
        client.tag, client.log, client.credential, client.kpm = tag, log, made["id"], made.get("kpm")
        client.told = []  # names of the keys that passed in its sessions
        self._master(client)
        return client

    def _master(self, client: Client) -> tuple[bytes, bytes]:
        """(client random, master secret) of its newest session; mefd's OpenSSL has the secret while that lasts."""
        lines = [line.split(" ") for line in client.log.read_text().splitlines() if line.startswith("CLIENT_RANDOM ")]
        random, master = (bytes.fromhex(x) for x in lines[-1][1:])
        self.story.secret(f"master-{client.way[0]}-{client.tag}-{len(lines)}", master, "memory:mefd")
        return random, master

    def over(self, sessions: str = "master-"):
        """They have ended: nobody has their secrets."""
        for name, secret in self.story.search.secrets.items():
            if name.startswith(sessions):
                secret.holders = set()

    def _told(self, client: Client, title: str, answer, rsc: int, *names: str):
        """The keys of these names may stand in it, once each."""
        if answer.rsc != rsc:
            raise StackError(f"{title}: {answer.rsc} {answer.code}, not {rsc}: {answer.body!r}")
        beside = json.dumps(list(answer.options.values()), default=lambda b: b.decode("latin-1")).encode()
        self.story.told("mmef", f"{client.way} {title}", answer.body, beside, *(self.story.search.secrets[n].value for n in names))
        client.told += names

    # --- the acts -------------------------------------------------------------------------------------------------------

    def provide(self):
        """Everybody deposits, retrieves, fetches; somebody may not; an operator has commands and a configuration for one."""
        self.clients = [self._client(way, ADMIN) for way in WAYS]
        self.clients += [self._client(way, SECOND) for way in self.rng.sample(WAYS, 2)]
        for c in self.clients:
            made = c.register()
            self._told(c, "register", made, 2001)
            c.registration = made.location
        labels = self.story.planter.labels("mmef-label", "capture:answers.mmef", "memory:mefd")
        for n, source in enumerate(self.clients):
            self._give(source, self.rng.randbytes(self.rng.choice((16, 32, 64))), lbl=labels[n::len(self.clients)])
            self._give(source, None)
        for key in self.keys:
            self._hand_out(key)
        self._refused()
        for c in self.clients:
            self._in_vain(c)
        self._administered(self.rng.choice(self.clients))
        for admin in (ADMIN, SECOND):  # and all that operators are told of it
            for path in ("registrations", "policies", "credentials", "audit?limit=1000"):
                self._rest(admin, "GET", f"/v1/{path}")

    def _targets(self, source: Client) -> list:
        return [c for c in self.clients if c.admin == source.admin and c is not source]

    def _give(self, source: Client, value: bytes | None, **more):
        """By value, or what the session exports."""
        name = f"provided-{len(self.keys):02}"
        if value is not None:
            more["kv"] = self._brought(source, name, value)
        form, targets = self.rng.choice((JSON, CBOR)), self._targets(source)
        made = source.deposit([t.id for t in targets], suid=SUID, form=form, accept=JSON, **more)
        self._told(source, "deposit", made, 2001)
        derived = {} if value is not None else self._exported(name, source, made.location, targets)
        self.keys.append(SimpleNamespace(name=name, source=source, path=made.location, derived=derived))

    def _brought(self, source: Client, name: str, value: bytes) -> str:
        self.story.secret(name, value)
        source.told.append(name)
        return base64.b64encode(value).decode()

    def _exported(self, name: str, source: Client, path: str, targets: list) -> dict:
        """Ke, by the client's own arithmetic (RFC 5705), and what may be derived of it. {target: name of its Kuc}."""
        random, master = self._master(source)
        wires = [p.read_bytes() for p in (self.stack.captures / "dtls.pcap", self.stack.captures / "https.down")]
        exports = (prf(master, EXPORTER + random + hello[1], 48) for wire in wires for hello in SERVER_HELLO.finditer(wire))
        ke = next((e[16:] for e in exports if f"mef/{e[:16].hex()}" == path), None)
        if ke is None:
            raise StackError(f"{source.way}: the client exports another RelativeKeyID than that of {path}")
        self.story.secret(name, ke)
        rand = [self.rng.randbytes(16).hex() for _ in range(2)]
        for what, inputs in (("km", {"id": "maf.example.org"}), ("kpsa", {"id": source.id}),
                             ("session-esprim", {"receiver_rand": rand[0], "originator_rand": rand[1]})):
            self.story.secret(f"{what}-of-{name}", onem2m.derive({"what": what, "key": ke.hex(), **inputs}))  # made by nobody
        for t in targets:
            self.story.secret(f"kuc-of-{name}-{t.tag}", onem2m.kuc(ke, SUID, f"C{t.tag}.in-cse.example.org"))
        return {t: f"kuc-of-{name}-{t.tag}" for t in targets}

    def _fetch(self, client: Client, path: str):
        return client.ask("GET", f"fetchCredentials/{path[4:]}@{FQDN}/{SUID}", accept=self.rng.choice((JSON, CBOR)))

    def _hand_out(self, key):
        for c in self.clients:
            if c is key.source:
                continue
            its = c.admin == key.source.admin
            got = c.ask("GET", key.path, accept=self.rng.choice((JSON, CBOR)))
            self._told(c, "retrieve", got, *((2000, key.name) if its else (4004,)))
            if key.derived:
                self._told(c, "fetch", self._fetch(c, key.path), *((2000, key.derived[c]) if its else (4004,)))

    def _refused(self):
        """By a rule, as long as there is one."""
        key = next(k for k in self.keys if k.derived)
        c = self._targets(key.source)[0]
        self._rest(c.admin, "PUT", "/v1/policies/not-now", {"effect": "deny", "what": ["retrieve"], "ids": [c.id]})
        self._told(c, "retrieve", c.ask("GET", key.path), 4103)
        self._told(c, "fetch", self._fetch(c, key.path), 4103)
        self._rest(c.admin, "DELETE", "/v1/policies/not-now")

    def _in_vain(self, c: Client):
        """Keys that are brought and not taken: against a rule, of no usage, in what is no content."""
        kv = [self._brought(c, f"in-vain-{c.tag}-{n}", self.rng.randbytes(32)) for n in range(4)]
        self._rest(c.admin, "PUT", "/v1/policies/not-from-you", {"effect": "deny", "what": ["deposit"], "ids": [c.id]})
        self._told(c, "deposit against a rule", c.deposit([c.id], kv=kv[0]), 4103)
        self._rest(c.admin, "DELETE", "/v1/policies/not-from-you")
        self._told(c, "deposit for no usage", c.deposit([c.id], suid=99, kv=kv[1], form=CBOR), 4000)
        self._told(c, "deposit with a tail", c.deposit([c.id], kv=kv[2] + "="), 4000)
        broken = c.ask("POST", ty=TY_KEY_REG, content=f'{{"sec:skr":{{"kv":"{kv[3]}","suid":'.encode())
        self._told(c, "deposit cut off", broken, 4000)

    def _administered(self, c: Client):
        path = f"/v1/registrations/{c.registration[4:]}"
        self._rest(c.admin, "POST", path + "/commands", COMMAND)
        self._rest(c.admin, "GET", path + "/commands")
        self._rest(c.admin, "PUT", path + "/configuration", {"fqdn": FQDN, "adminFQDN": c.admin})
        told = c.ask("GET", c.registration + "/cmd")
        self._told(c, "command", told, 2000)
        report = {"sec:mecc": {"cmi": told.pc["cmi"], "cmst": 20}}
        self._told(c, "report", c.ask("PUT", c.registration + "/cmd", content=report), 2004)
        self._told(c, "configuration", c.ask("GET", c.registration + "/cfg"), 2000)

    def withdraw(self):
        """mefd is another by now. What is stored is told once more, then deleted, and the credentials with it."""
        self.story.planter.forget("mmef-label", "memory:mefd")
        for c in self.clients:
            c.reconnect()
            self._master(c)
        for key in self.rng.sample(self.keys, 4):
            self._hand_out(key)
        for key in self.keys:
            self._told(key.source, "DELETE", key.source.ask("DELETE", key.path), 2002)
        for c in self.clients:
            c.close()
            self._rest(c.admin, "DELETE", f"/v1/credentials/{c.credential}")
        self.over("master-https-")  # a DTLS session whose client is silent goes on

    def opened(self) -> list:
        """[(name, pre-shared key, names of the keys told there)] of DTLS sessions that can be opened."""
        return [(f"mmef-{c.admin}", bytes.fromhex(c.kpm), tuple(c.told)) for c in self.clients if c.way == ("coaps", "psk")]
