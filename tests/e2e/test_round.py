"""Everything a client can do of Mmef (TS-0003 8.3.5, 8.3.9), in one round, by clients that have nothing of the product nor of
the other tests: curl with a certificate over HTTPS (it has no pre-shared keys), and tests/interop/mmef_client.py over CoAPs."""
import base64
import json
import secrets
import subprocess
import sys
import unittest
from pathlib import Path

import common
from stack import ADMIN, AE_ID, FQDN, set_option
from test_commands import DEV_CFG, NO_MORE
from test_procedures import KEY, KV, Clients

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))
import mmef_client  # noqa: E402

BASE, CLIENT_REG, CLIENT_CMD, KEY_REG, CLIENT_CFG = range(60001, 60006)
FAR = "20991231T235959"
CONFIGURATION = {"fqdn": FQDN, "adminFQDN": ADMIN, "coapPort": 5684}


class Curl:
    """A session for each request."""

    def __init__(self, test, who: str, kind: str):
        cert, key = test.proof(kind, who, ADMIN)[1::2]
        self.id, self.stack = who, test.stack
        self.argv = ["curl", "-sS", "--cacert", self.stack.ca, "--cert", cert, "--key", key, "-H", f"X-M2M-Origin: {who}", "-H",
                     "X-M2M-RI: 1", "-H", "X-M2M-RVI: 3", "-w", "\n%header{x-m2m-rsc} %header{content-location}"]

    def ask(self, method: str, path: str, body: dict | None = None, ty: int | None = None, query: str = "") -> tuple:
        form = "application/json" + (f";ty={ty}" if ty else "")
        argv = ["-H", f"Content-Type: {form}", "-d", json.dumps(body)] if body is not None else []
        url = f"{self.stack.https_uri}/{path}" + ("?" + query if query else "")
        done = subprocess.run([*self.argv, "-X", method, *argv, url], check=True, capture_output=True, text=True, timeout=30)
        content, _, said = done.stdout.rpartition("\n")
        rsc, location = said.split(" ")
        return int(rsc), location.lstrip("/"), content

    def close(self):
        pass


class Coap:
    def __init__(self, test, who: str, kind: str):
        shown = test.proof(kind, who, ADMIN)[1::2]
        proof = (mmef_client.by_key if kind == "psk" else mmef_client.by_certificate)(*shown)
        self.id = who
        self.client = mmef_client.Client(mmef_client.Session("127.0.0.1", test.stack.coaps, proof, 10), who, "mef")

    def ask(self, method: str, path: str, body: dict | None = None, ty: int | None = None, query: str = "") -> tuple:
        code = getattr(mmef_client, method)
        answer, content = self.client.call(code, path, query.split("&") if query else (), ty, body)
        return answer.rsc, answer.location, content.decode()

    def close(self):
        self.client.session.close()


class Round(Clients, common.StackTest):
    @classmethod
    def prepare(cls):
        set_option(cls.stack.mefd_conf, "mef", "fetch-credentials", "yes")
        super().prepare()

    def made(self, kind):
        client = kind[0](self, f"//example.org/in-cse/C{secrets.token_hex(6)}", kind[1])
        self.addCleanup(client.close)
        return client

    def wants(self, rsc: int, client, *request, **more) -> dict:
        """The one resource in the answer, which has this code; of a refusal nothing."""
        got, self.location, content = client.ask(*request, **more)
        self.assertEqual(got, rsc, (request, content))
        return next(iter(json.loads(content).values())) if content and got < 4000 else {}

    def create(self, client, ty: int, root: str, **attributes) -> tuple[str, dict]:
        content = {root: {"et": FAR, "adfq": ADMIN, **attributes}}
        made = self.wants(2001, client, "POST", "mef", content, ty)
        self.assertEqual(self.location, "mef/" + made["ri"])
        return self.location, made

    def test_curl_by_certificate(self):
        self.round((Curl, "certificate"))

    def test_coap_by_key(self):
        self.round((Coap, "psk"))

    def test_coap_by_certificate(self):
        self.round((Coap, "certificate"))

    def round(self, kind):
        source, target, other = (self.made(kind) for _ in range(3))
        self.assertEqual(self.wants(2000, source, "GET", "mef")["ty"], BASE)
        uri = self.registered(source)
        self.keys(source, target, other)
        self.commands(source, other, uri)
        self.configuration(source, other, uri)
        self.wants(2002, source, "DELETE", uri)
        for path in (uri, uri + "/cmd", uri + "/cfg"):
            self.wants(4004, source, "GET", path)
        self.wants(4103, source, "POST", "mef", {"sec:skr": {"et": FAR, "adfq": ADMIN, "suid": 24, "tgis": [AE_ID], "kv": KV}}, KEY_REG)
        self.assertNotEqual(self.registered(source), uri)

    def registered(self, source) -> str:
        uri, made = self.create(source, CLIENT_REG, "sec:mecr", lbl=["room:1"])
        self.assertEqual((made["srci"], made["adfq"], made["lbl"]), (source.id, ADMIN, ["room:1"]))
        self.wants(4117, source, "POST", "mef", {"sec:mecr": {"et": FAR, "adfq": ADMIN}}, CLIENT_REG)
        self.assertEqual(self.wants(2004, source, "PUT", uri, {"sec:mecr": {"lbl": ["room:2"]}}), {"lbl": ["room:2"]})
        now = self.wants(2000, source, "GET", uri)
        self.assertEqual((now["lbl"], now["et"], now["ri"]), (["room:2"], made["et"], made["ri"]))
        return uri

    def keys(self, source, target, other):
        """By value and out of the session; found by label; given to targets alone, until it is deleted."""
        label = "device:" + secrets.token_hex(4)
        for more, length in (({"kv": KV}, 16), ({}, 32)):
            uri, made = self.create(source, KEY_REG, "sec:skr", suid=24, tgis=[target.id], lbl=[label], **more)
            self.assertNotIn("kv", made)
            for client, found in ((target, [uri]), (source, [uri]), (other, [])):
                self.assertEqual(self.wants(2000, client, "GET", "mef", query=f"fu=1&lbl={label}"), found)
            key = base64.b64decode(self.wants(2000, target, "GET", uri)["kv"], validate=True)
            self.assertEqual(len(key), length)
            self.assertEqual(key == KEY, bool(more))
            self.assertNotIn("kv", self.wants(2000, source, "GET", uri))
            self.wants(4103, other, "GET", uri)
            self.fetched(target, made["ri"], derived=not more)
            self.assertEqual(self.wants(2004, source, "PUT", uri, {"sec:skr": {"tgis": [other.id]}}), {"tgis": [other.id]})
            self.wants(4103, target, "GET", uri)
            self.assertEqual(base64.b64decode(self.wants(2000, other, "GET", uri)["kv"]), key)
            self.wants(4103, other, "DELETE", uri)
            self.wants(2002, source, "DELETE", uri)
            self.wants(4004, other, "GET", uri)

    def fetched(self, target, ri: str, derived: bool):
        rsc, _, content = target.ask("GET", f"fetchCredentials/{ri}@{FQDN}/24")
        said = json.loads(content)
        self.assertEqual((rsc, said["Status"]), (2000, True) if derived else (4004, False))
        if derived:
            self.assertEqual(len(base64.b64decode(said["Credential"])), 32)

    def commands(self, source, other, uri: str):
        rows = f"/v1/registrations/{uri.split('/')[1]}/commands"
        one = self.stack.must("POST", rows, DEV_CFG)["id"]
        where = next(ref["val"] for ref in self.wants(2000, source, "GET", uri)["ch"] if ref["typ"] == CLIENT_CMD)
        for status in (10, 11):  # issued, and again
            told = self.wants(2000, source, "GET", where)
            self.assertEqual((told["cmi"], told["cmds"], told["cmst"]), (one, DEV_CFG, status))
        self.wants(4103, other, "GET", where)
        self.wants(4000, source, "PUT", where, {"sec:mecc": {"cmi": one, "cmst": 100}})
        after = self.wants(2004, source, "PUT", where, {"sec:mecc": {"cmi": one, "cmst": 20}})
        self.assertEqual(after["cmds"]["cmdClassID"], NO_MORE["cmdClassID"])
        self.assertEqual([(r["state"], r["result"]) for r in self.stack.must("GET", rows)], [("done", 20)])

    def configuration(self, source, other, uri: str):
        self.wants(4004, source, "GET", uri + "/cfg")
        self.stack.must("PUT", f"/v1/registrations/{uri.split('/')[1]}/configuration", CONFIGURATION)
        where = next(ref["val"] for ref in self.wants(2000, source, "GET", uri)["ch"] if ref["typ"] == CLIENT_CFG)
        self.assertEqual(self.wants(2000, source, "GET", where)["ccfg"], CONFIGURATION)
        self.wants(4103, other, "GET", where)


if __name__ == "__main__":
    unittest.main()
