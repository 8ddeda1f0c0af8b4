#!/usr/bin/python3
"""Hostile and wrong requests against one running stack, over IPv4 and IPv6: run.py BUILD [NAME-REGEX]. Ends with 'N passed, N failed'.

The rows are data (*_rows.py), engine.py says what came back. After every fifty rows all processes must live; at the end the
store, dumped after a clean stop, must hold what it held before: no row changed, no counter moved, and nothing new in the
audit trail but refusals."""
import contextlib
import itertools
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
import coap_rows  # noqa: E402
import dtls_rows  # noqa: E402
import eg_rows  # noqa: E402
import http_rows  # noqa: E402
import mmef_rows  # noqa: E402
import rest_rows  # noqa: E402
from coapclient import CONTENT_FORMAT, FR, JSON, POST, RQI, RVI, TY, CoapClient, eg_request, uint  # noqa: E402
from engine import Engine  # noqa: E402
from pki import Authority  # noqa: E402
from stack import ADMIN, AE_ID, Stack, install_code, ipv6, random_eui64, set_option, write_private  # noqa: E402

OTHER_AE, BARE_AE = "//example.org/in-cse/Cother", "//example.org/in-cse/Cbare"
MALFORMED = 50  # requests for each resource by each binding and each kind of credential
ROOMS = (coap_rows, mmef_rows, rest_rows, http_rows, eg_rows, dtls_rows)


class World:
    """What the rows speak of: an enrolled device, an AE that is its target and one that is not, two gateways, operators."""

    admin, origin, other_origin = ADMIN, AE_ID.encode(), OTHER_AE.encode()
    primitive = [(FR, AE_ID.encode()), (RQI, b"1"), (RVI, b"3")]
    origins = {"ae": AE_ID.encode(), "other": OTHER_AE.encode(), "bare": BARE_AE.encode()}

    def __init__(self, build: Path, folder: Path):
        s = self.stack = Stack(build, folder)
        s.init()
        self.tokens = {"admin": s.token()}
        for name, role, admin in (("installer", "installer", ADMIN), ("viewer", "viewer", ADMIN),
                                  ("stranger", "admin", "stranger.example.com")):
            self.tokens[name] = name + "-" * 10 + os.urandom(16).hex()
            file = write_private(folder / f"{name}.token", self.tokens[name] + "\n")
            for key, value in (("file", file), ("admin-fqdn", admin), ("role", role)):
                set_option(s.mefd_conf, f"token.{name}", key, str(value))
        set_option(s.mefd_conf, "mef", "fetch-credentials", "yes")
        ca = Authority(folder, "clients")
        server = ca.issue("server", dns=["mef.example.org"], ips=["127.0.0.1"], server=True)
        for section, key, file in (("coap", "certificate", server.cert), ("coap", "private-key", server.key),
                                   ("coap", "trust-anchors", ca.file), ("https", "trust-anchors", ca.file)):
            set_option(s.mefd_conf, section, key, str(file))
        s.start_mefd()
        s.make_credentials()
        self.gateway, self.gateway2 = s.gateway_eui, random_eui64()
        gw2 = s.must("POST", "/v1/credentials", {"for": f"gateway:{self.gateway2}", "kind": "psk"})
        s.must("PUT", f"/v1/gateways/{self.gateway2}", {"identity": gw2["kpmId"]})
        s.must("PUT", "/v1/applications/room", {"members": ["C-room"]})
        self.credentials = {"ae": s.ae, "gw": s.gw_credential, "gw2": gw2,
                            "other": s.must("POST", "/v1/credentials", {"for": OTHER_AE, "kind": "psk"}),
                            "bare": s.must("POST", "/v1/credentials", {"for": BARE_AE, "kind": "psk"}),
                            "node": s.must("POST", "/v1/credentials", {"for": "node:1", "kind": "psk", "actsFor": [OTHER_AE]})}
        self.certificates = {who: ca.issue(who, uris=[name.decode()]) for who, name in self.origins.items()}
        for name in self.origins.values():
            s.must("POST", "/v1/credentials", {"for": name.decode(), "kind": "certificate"})
        s.start_gateway()
        self._enrol()
        self._deposit()

    def _enrol(self):
        s, self.eui, code = self.stack, random_eui64(), install_code()
        s.register_code(self.eui, code)
        joiner = s.join(self.eui, code, "--report", "0x0402/0/s16/2150/1", "--reports", "1", "--linger", "0")
        joined = joiner.wait_event(10, event="joined")
        assert joined and joiner.wait_event(10, event="reported"), joiner.tail()
        self.short = bytes.fromhex(joined["short"])[::-1]
        s.wait_state(self.eui, "enrolled")
        joiner.stop()
        s.processes.remove(joiner)
        self.key = s.mefkey("find", self.eui)[1].split("/")[-1]
        assert self.key, "the AE finds no key"

    def _deposit(self):
        """A registration with a configuration, a key of the AE's own; and another's registration without one."""
        client = CoapClient(self.stack.coaps, self.stack.ae["kpmId"], self.stack.ae["kpm"])
        form = (CONTENT_FORMAT, uint(JSON))
        client.request(POST, "mef", [(TY, uint(60002)), form],
                       b'{"sec:mecr":{"et":"20500101T000000","adfq":"%s"}}' % ADMIN.encode(), origin=AE_ID)
        found = client.request(1, "mef", [(15, b"fu=1")], origin=AE_ID).payload.decode()
        self.registration = next(i for i in re.findall(r"mef/([0-9a-f]{32})", found) if i != self.key)
        made = client.request(POST, "mef", [(TY, uint(60004)), form],
                              b'{"sec:skr":{"et":"20500101T000000","adfq":"%s","suid":24,'
                              b'"tgis":["%s"],"kv":"AAECAwQFBgcICQoLDA0ODw=="}}' % (ADMIN.encode(), OTHER_AE.encode()),
                              origin=AE_ID)
        client.request(1, f"mef/{self.registration}/cmd", origin=AE_ID)  # its command 1: NO_MORE_COMMANDS
        self.own = re.search(rb'"ri":"([0-9a-f]+)"', made.payload)[1].decode()
        client.close()
        self.stack.must("PUT", f"/v1/registrations/{self.registration}/configuration", {"fqdn": "mef.example.org", "adminFQDN": ADMIN})
        client = CoapClient(self.stack.coaps, self.credentials["bare"]["kpmId"], self.credentials["bare"]["kpm"])
        made = client.request(POST, "mef", [(TY, uint(60002)), form], b'{"sec:mecr":{"et":"20500101T000000","adfq":"%s"}}' % ADMIN.encode(),
                              origin=BARE_AE)
        self.bare = re.search(rb'"ri":"([0-9a-f]+)"', made.payload)[1].decode()
        client.close()

    def eg_request(self) -> bytes:
        return eg_request(99, self.gateway, random_eui64())

    def sealed(self) -> bytes:
        """A NWK data frame, well-formed, under the network key's number, with a MIC that is none."""
        gateway = bytes.fromhex(self.gateway)[::-1]
        return b"\x48\x02" + self.short + b"\x00\x00" + b"\x1e\x01" + b"\x28" + (1 << 20).to_bytes(4,
                "little") + gateway + b"\x00" + bytes(24)

    def restart(self):
        self.stack.stop()
        dump = database(self.stack.etc / "mef.db")
        self.stack.start_mefd()
        self.stack.start_gateway()
        return dump


def database(path: Path) -> dict:
    """Every row of every table, audit included; but the epochs, which say which session speaks for a gateway."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        tables = [t for (t,
                         ) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'") if t != "gateway_epoch"]
        return {(t, bytes(k)): bytes(v) for t in tables for k, v in db.execute(f'SELECT k, v FROM "{t}"')}


def audit_texts(row: bytes) -> list:
    """admin, actor, action, object, outcome of a record of mef-plugin/audit."""
    texts, at = [], 13
    while at < len(row):
        texts.append(row[at + 1:at + 1 + row[at]].decode())
        at += 1 + row[at]
    return texts


def changes(before: dict, after: dict) -> list:
    """What differs, but for refusals added to the audit trail."""
    different = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    return [f"{table} {key.hex()}" for table, key in different
            if table != "audit" or (table, key) in before or audit_texts(after[table, key])[4] == "ok"]


def enough_of(tables: dict):
    """(resource with binding, whether there are rows enough): of each resource on each binding, by each kind of credential."""
    for kind, table in tables.items():
        for resource, binding in itertools.product(mmef_rows.RESOURCES, ("coap:", "primitive:")):
            n = sum(row.name.startswith(resource) and row.transport.startswith(binding) for row in table)
            yield f"{resource}by {binding} by {kind}", n >= MALFORMED
    for resource in rest_rows.RESOURCES:
        yield f"{resource}of the REST", sum(row.name.startswith(resource) for row in tables["psk"]) >= MALFORMED


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    wanted = re.compile(sys.argv[2] if len(sys.argv) > 2 else ".")
    folder = Path(tempfile.mkdtemp(prefix="mef-hostile-"))
    passed = failed = 0

    def check(good: bool, complaint: str):
        nonlocal passed, failed
        passed, failed = passed + good, failed + (not good)
        if not good:
            print(f"FAILED  {complaint}", flush=True)

    try:
        world = World(Path(sys.argv[1]).resolve(), folder)
        before = world.restart()
        stack = world.stack
        rows = [row for room in ROOMS for row in room.rows(world)]
        names = Counter(row.name for row in rows)
        check(max(names.values()) == 1, f"a name twice: {names.most_common(3)}")
        tables = {"psk": rows, "certificate": [row for row in rows if row.name.startswith(mmef_rows.RESOURCES)]}
        for resource, enough in enough_of(tables):
            check(enough, f"fewer than {MALFORMED} malformed requests for {resource}")
        for host, kind in itertools.product(("127.0.0.1", "::1") if ipv6() else ("127.0.0.1",), tables):
            began, engine = time.monotonic(), Engine(world, host, kind)
            for number, row in enumerate(row for row in tables[kind] if wanted.search(row.name)):
                said = engine.answer(row)
                where = f"{host} {row.transport:<10} {row.name}" + (", by certificate" if kind == "certificate" else "")
                check(said == row.expect, f"{where}: {said}, not {row.expect}")
                if said == row.expect:
                    print(f"ok      {where}", flush=True)
                if number % 50 == 49:
                    check(all(p.running() for p in (stack.mefd, stack.ipe, stack.gateway)),
                          f"a process ended before {row.name}")
            engine.close()
            print(f"{len(tables[kind])} rows over {host} by {kind} in {time.monotonic() - began:.1f} s")
        stack.stop()
        differ = changes(before, database(stack.etc / "mef.db"))
        check(not differ, f"the store changed: {differ}")
    finally:
        with contextlib.suppress(Exception):
            world.stack.stop()
        if failed or os.environ.get("MEF_KEEP"):
            print(f"logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
