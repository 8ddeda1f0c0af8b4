#!/usr/bin/python3
"""docs/rest-api.yaml against a running mefd: openapi.py BUILD_DIR. The document is validated, then every answer of a
walk through all routes, roles, successes and failures is checked against it; what is only in one of the two fails."""
import http.client
import itertools
import json
import re
import shutil
import signal
import ssl
import sys
import tempfile
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import jsonschema
import yaml

from common import DOCS, ROOT, main
from mmef import Client
from stack import AE_ID, FQDN, Stack, install_code, random_eui64, write_private

METHODS = ["get", "put", "post", "delete", "patch"]
# Codes that no request over HTTPS brings about, and why.
NOT_SHOWN = {"duplicate": "the server's JSON parser refuses first", "no-memory": "memory does not run out here"}
# With these a body that fits its schema is refused all the same.
BY_CONTENT = {"bad-crc", "bad-hex", "bad-length", "bad-value", "public-key", "short-code", "past", "bad-eui64", "no-eui64",
              "not-a-gateway-credential", "unknown-parameter", "unknown-format", "no-code", "two-codes", "two-eui64s"}
NAMES = {"AFTER": "after", "AFTER_TEXT": "after", "LIMIT": "limit", "BEFORE": "before", "REPLACE": "replace"}
ROLES = ("admin", "installer", "viewer")


class Document:
    def __init__(self, path: Path):
        self.tree = yaml.safe_load(path.read_text())

    def get(self, node):
        """Follow a reference; its own members beside `$ref` win."""
        while isinstance(node, dict) and "$ref" in node:
            target = self.tree
            for step in node["$ref"][2:].split("/"):
                target = target[step]
            node = {**target, **{k: v for k, v in node.items() if k != "$ref"}} if isinstance(target, dict) else target
        return node

    def errors(self, schema, value) -> list:
        validator = jsonschema.Draft202012Validator({**schema, "components": self.tree["components"]})
        return [f"{e.json_path}: {e.message[:150]}" for e in validator.iter_errors(value)]

    def operations(self):
        for path, item in self.tree["paths"].items():
            for method in METHODS:
                if method in item:
                    yield path, method, item[method]

    def template(self, path: str) -> str | None:
        for t in self.tree["paths"]:
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", t), path):
                return t
        return None

    def parameters(self, template: str, method: str, where: str) -> dict:
        item = self.tree["paths"][template]
        everything = [self.get(p) for p in item.get("parameters", []) + item[method].get("parameters", [])]
        return {p["name"]: p for p in everything if p["in"] == where}


def validate(c, doc: Document):
    meta = yaml.safe_load((ROOT / "tests/docs/oas31.yaml").read_text())
    c.check("the document is OpenAPI 3.1",
            [f"{e.json_path}: {e.message[:150]}" for e in jsonschema.Draft202012Validator(meta).iter_errors(doc.tree)])
    schemas, objects, dangling = [], [], []

    def visit(node, where):
        if isinstance(node, dict):
            if "$ref" in node:
                try:
                    doc.get(node)
                except KeyError:
                    dangling.append(f"{where}: {node['$ref']}")
            if node.get("type") == "object" and where.startswith("components/schemas") and \
                    node.get("additionalProperties") is not False:
                objects.append(where)
        for k, v in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            visit(v, f"{where}/{k}" if where else str(k))

    visit(doc.tree, "")
    for name, schema in doc.tree["components"]["schemas"].items():
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as e:
            schemas.append(f"{name}: {e.message}")
    c.check("every reference leads somewhere", dangling)
    c.check("every schema is JSON Schema 2020-12", schemas)
    c.check("every object schema is closed", objects)
    ids = [op["operationId"] for _, _, op in doc.operations()]
    c.check("operation ids are unique", {i for i in ids if ids.count(i) > 1})
    c.check("each path names its own parameters", [
        f"{path} {method}" for path, method, _ in doc.operations()
        if set(doc.parameters(path, method, "path")) != set(re.findall(r"\{(\w+)\}", path))])
    c.check("every example fits its schema", example_errors(doc))


def example_errors(doc: Document) -> list:
    out = []
    for name, schema in doc.tree["components"]["schemas"].items():
        if "example" in schema:
            out += [f"{name}: {e}" for e in doc.errors(schema, schema["example"])]
    bodies = [(f"response {n}", r) for n, r in doc.tree["components"]["responses"].items()]
    bodies += [(op["operationId"], op["requestBody"]) for _, _, op in doc.operations() if "requestBody" in op]
    for name, body in bodies:
        for media in body.get("content", {}).values():
            examples = [e["value"] for e in media.get("examples", {}).values()]
            for example in examples + ([media["example"]] if "example" in media else []):
                out += [f"{name}: {e}" for e in doc.errors(media["schema"], example)]
    for name, p in doc.tree["components"]["parameters"].items():
        if "example" in p:
            out += [f"{name}: {e}" for e in doc.errors(p["schema"], p["example"])]
    return out


def compare_with_source(c, doc: Document):
    """The table of routes and the pages of the status server, against the paths."""
    blank = lambda path: re.sub(r"\{\w+\}", "{}", path)
    verbs = {"CSE_RETRIEVE": "get", "CSE_UPDATE": "put", "CSE_CREATE": "post", "CSE_DELETE": "delete"}
    table = re.findall(r'\{(CSE_\w+), "(v1/[^"]*)", \w+, ([\w| ]+),', (ROOT / "mef-plugin/admin/admin.c").read_text())
    pages = re.findall(r'\{"(/\w+)", \w+\}', (ROOT / "cse-shim/http/status_server.c").read_text())
    c.differ("the document has the program's routes", {(blank(p), m) for p, m, _ in doc.operations()},
             {(blank("/" + p), verbs[m]) for m, p, _ in table} | {(p, "get") for p in pages})
    c.differ("the document has the program's query parameters",
             {(blank(p), m, q) for p, m, _ in doc.operations() for q in doc.parameters(p, m, "query")},
             {(blank("/" + p), verbs[m], NAMES[q]) for m, p, flags in table for q in re.findall(r"Q_(\w+)", flags)})


class Walk:
    """Asks, and judges every answer by the document."""

    def __init__(self, doc: Document, stack: Stack):
        self.doc, self.stack, self.wrong = doc, stack, []
        self.seen, self.codes, self.asked = set(), set(), 0
        self.token = stack.token()
        context = ssl.create_default_context(cafile=str(stack.ca))
        self.connection = http.client.HTTPSConnection("127.0.0.1", stack.https, context=context, timeout=10)

    def ask(self, method: str, target: str, body=None, want: int | None = None, token="", headers=None):
        """The answer's JSON or text. token "" is the admin's, None is none; a body that is bytes is sent as it is."""
        head = {"Content-Type": "application/json"} if body is not None else {}
        if token is not None:
            head["Authorization"] = "Bearer " + (token or self.token)
        head.update(headers or {})
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        self.connection.request(method.upper(), target, data, head)
        answer = self.connection.getresponse()
        raw, self.asked = answer.read(), self.asked + 1
        value = self.judge(method.lower(), target, body, answer, raw)
        if want is not None and answer.status != want:
            self.wrong.append(f"{method} {target} {body}: {answer.status} {raw[:200]!r}, wanted {want}")
        return value

    def watch(self, target: str):
        """The first bytes of a stream of events, which has no end."""
        context = ssl.create_default_context(cafile=str(self.stack.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", self.stack.https, context=context, timeout=10)
        connection.request("GET", target, headers={"Authorization": "Bearer " + self.token, "Accept": "text/event-stream"})
        answer = connection.getresponse()
        if answer.status != 200:
            self.wrong.append(f"watching {target}: {answer.status}")
            return
        self.judge("get", target, None, answer, answer.read1(100))
        connection.close()

    def judge(self, method, target, body, answer, raw):
        where = f"{method} {target} {body if not isinstance(body, bytes) else body[:60]} -> {answer.status}"
        parts = urlsplit(target)
        template = self.doc.template(parts.path)
        item = self.doc.tree["paths"][template] if template else {}
        if method in item:
            responses = item[method]["responses"]
            response = self.doc.get(responses.get(str(answer.status), responses.get("default")))
            self.seen.add((template, method, str(answer.status)))
        else:
            response = self.doc.get({"$ref": "#/components/responses/Failure"})
            if answer.status != (405 if template else 404):
                self.wrong.append(f"{where}: a method or path that is not documented")
        if response is None:
            self.wrong.append(f"{where}: the status is not documented")
            return None
        value = self.judge_body(where, response, answer, raw)
        if method in item and 200 <= answer.status < 300:
            self.judge_request(where, template, method, parts.query, body)
        self.judge_problem(where, template, method, body, answer, value)
        return value

    def judge_body(self, where, response, answer, raw):
        media = (answer.getheader("Content-Type") or "").split(";")[0]
        content = response.get("content", {})
        if (set(content) or {""}) != {media} or bool(raw) != bool(content):
            self.wrong.append(f"{where}: content type {media!r}, {len(raw)} bytes")
            return None
        for name, header in response.get("headers", {}).items():
            value, h = answer.getheader(name), self.doc.get(header)
            if value is None and h.get("required"):
                self.wrong.append(f"{where}: header {name} is missing")
            elif value is not None:
                self.wrong += [f"{where}: header {name}: {e}" for e in self.doc.errors(h["schema"], value)]
        if not content:
            return None
        value = json.loads(raw) if media.endswith("json") else raw.decode()
        self.wrong += [f"{where}: {e}" for e in self.doc.errors(content[media]["schema"], value)]
        return value

    def judge_request(self, where, template, method, query, body):
        """What was accepted must have been allowed."""
        known = self.doc.parameters(template, method, "query")
        for name, value in parse_qsl(query):
            schema = known.get(name, {}).get("schema", False)
            kind = self.doc.get(schema).get("type") if schema else None
            typed = int(value) if kind == "integer" else value == "true" if kind == "boolean" else value
            if schema is False or self.doc.errors(schema, typed):
                self.wrong.append(f"{where}: accepted the parameter {name}={value}")
        request = self.doc.tree["paths"][template][method].get("requestBody")
        if request and not isinstance(body, bytes):
            schema = request["content"]["application/json"]["schema"]
            self.wrong += [f"{where}: accepted {e}" for e in self.doc.errors(schema, body)]

    def judge_problem(self, where, template, method, body, answer, value):
        if answer.status < 400 or not isinstance(value, dict):
            return
        if value.get("status") != answer.status:
            self.wrong.append(f"{where}: the problem says {value.get('status')}")
        self.codes.add(value.get("code"))
        request = self.doc.tree["paths"].get(template, {}).get(method, {}).get("requestBody")
        if answer.status == 400 and request and isinstance(body, dict) and value.get("code") not in BY_CONTENT and \
                not self.doc.errors(request["content"]["application/json"]["schema"], body):
            self.wrong.append(f"{where}: {value.get('code')}, though the body fits its schema")

    def report(self, c, name):
        c.check(f"{name}: {self.asked} answers are as documented", self.wrong)


def concrete(template: str) -> str:
    values = {"{eui64}": "00158dffffffffff", "{action}": "rearm"}
    return re.sub(r"\{\w+\}", lambda m: values.get(m[0], "nobody"), template)


def install_codes(w: Walk):
    eui, path = random_eui64(), "/v1/install-codes/"
    code, other = install_code(), install_code()
    full = {"installCode": code, "application": "lights", "targets": ["C-demo", AE_ID],
            "gateways": [w.stack.gateway_eui.upper()], "expiresAt": "2099-01-31T00:00:00+01:00"}
    w.ask("PUT", path + eui, full, 201)
    w.ask("PUT", path + eui, full, 200)
    w.ask("PUT", path + eui, {"linkKey": "5f1c2a7d94e04b6f8a3b1c9d2e7f6051"}, 200)
    w.ask("GET", path + eui, want=200)
    w.ask("GET", path + ":".join(re.findall("..", eui)), want=200)
    for body in ({}, {"installCode": code, "linkKey": "00" * 16}, {**full, "zap": 1}, {"installCode": 7},
                 {"installCode": "zz"}, {"installCode": code[:-1] + ("0" if code[-1] != "0" else "1")}, {"installCode": "00112233"},
                 {"installCode": install_code(6)}, {"linkKey": "5A6967426565416C6C69616E63653039"}, {"linkKey": "xyz"},
                 {**full, "targets": ["no id"]}, {**full, "gateways": ["123"]}, {**full, "expiresAt": "tomorrow"},
                 {**full, "targets": ["C-demo"] * 17}, {**full, "application": ""}):
        w.ask("PUT", path + random_eui64(), body, 400)
    w.ask("PUT", path + "0000000000000000", full, 400)
    w.ask("PUT", path + random_eui64(), None, 400)
    w.ask("PUT", path + random_eui64() + "?replace=maybe", full, 400)
    w.ask("PUT", path + "nonsense", full, 400)
    w.ask("PUT", path + eui, full, 409, token=w.tokens["rival"])
    w.ask("GET", path + eui, want=404, token=w.tokens["rival"])
    label = random_eui64()
    w.ask("POST", "/v1/install-codes", {"label": f"{label.upper()}|{other}", "targets": ["C-demo"]}, 201)
    w.ask("POST", "/v1/install-codes", {"label": f"{label.upper()}|{other}"}, 409)
    for body in ({}, {"label": "a cat"}, {"label": f"{label}|{other[:-4]}0000"}, {"label": f"Z:{label}$X:1"},
                 {"label": f"$I:{other}"}, {"label": other, "zap": 1}, {"label": f"{'0' * 16}|{other}"},
                 {"label": f"{label}|{other}|{other}"}, {"label": f"Z:{label}$I:{other}$Z:{label}"}):
        w.ask("POST", "/v1/install-codes", body, 400)
    for query, status in (("", 200), ("?limit=1", 200), (f"?after={eui}&limit=1000", 200), ("?limit=0", 400),
                          ("?limit=1001", 400), ("?after=x", 400), ("?zap=1", 400)):
        w.ask("GET", "/v1/install-codes" + query, want=status)
    w.ask("DELETE", path + label, want=204)
    w.ask("DELETE", path + label, want=404)


def gateways(w: Walk):
    eui, path = random_eui64(), "/v1/gateways/"
    identity = w.stack.gw_credential["kpmId"]
    full = {"identity": identity, "name": "hall", "panIds": [0x1a62], "applications": ["lights"],
            "firstKeyForm": "extended"}
    w.ask("PUT", path + eui, full, 201)
    w.ask("PUT", path + eui, {"identity": identity}, 200)
    w.ask("GET", path + eui, want=200)
    w.ask("GET", "/v1/gateways", want=200)
    for body in ({}, {"identity": "nobody"}, {"identity": w.stack.ae["kpmId"]}, {**full, "panIds": [65535]},
                 {**full, "zap": 1}, {**full, "firstKeyForm": "round"}):
        w.ask("PUT", path + eui, body, 400)
    theirs = w.ask("POST", "/v1/credentials", {"for": "gateway:rival", "kind": "psk"}, 201, token=w.tokens["rival"])["kpmId"]
    w.ask("PUT", path + eui, full, 400, token=w.tokens["rival"])
    w.ask("PUT", path + eui, {"identity": theirs}, 409, token=w.tokens["rival"])
    w.ask("GET", path + "x", want=400)
    w.ask("DELETE", path + eui, want=204)
    w.ask("DELETE", path + eui, want=404)


def devices(w: Walk, enrolled: str):
    path = "/v1/devices/"
    w.ask("GET", "/v1/devices", want=200)
    w.ask("GET", "/v1/devices?limit=1&after=0000000000000001", want=200)
    w.ask("GET", path + enrolled, want=200)
    w.ask("PUT", f"/v1/install-codes/{enrolled}", {"installCode": install_code()}, 409)
    w.ask("PUT", f"/v1/install-codes/{enrolled}?replace=true", {"installCode": install_code()}, 200)
    for action, status in (("rearm", 200), ("rekey", 501), ("revoke", 200), ("explode", 404)):
        w.ask("POST", path + f"{enrolled}/{action}", want=status)
        w.ask("GET", path + enrolled, want=200)
    stranger = random_eui64()
    joiner = w.stack.join(stranger, install_code(), "--attempts", "1")
    joiner.wait_event(10, event="associate-refused")
    joiner.stop()
    w.ask("GET", path + stranger, want=404)
    w.ask("POST", path + "x/rearm", want=400)


def applications(w: Walk):
    path = "/v1/applications/"
    w.ask("PUT", path + "a.b", {"members": ["C-demo"], "keyScope": "device", "lifetime": 60}, 201)
    w.ask("PUT", path + "a.b", {"members": []}, 200)
    w.ask("GET", path + "a.b", want=200)
    for body, status in (({}, 400), ({"members": ["no id"]}, 400), ({"members": [], "keyScope": "network"}, 200),
                         ({"members": [], "keyScope": "moon"}, 400), ({"members": [], "lifetime": -1}, 400),
                         ({"members": [], "zap": 1}, 400)):
        w.ask("PUT", path + "a.b", body, status)
    w.ask("PUT", path + "a%20b", {"members": []}, 400)
    for query, status in (("", 200), ("?limit=1&after=a", 200), ("?before=1", 400)):
        w.ask("GET", "/v1/applications" + query, want=status)
    w.ask("DELETE", path + "a.b", want=204)
    w.ask("DELETE", path + "a.b", want=404)


def policies(w: Walk):
    path = "/v1/policies/"
    full = {"effect": "deny", "what": ["ticket", "retrieve"], "ids": ["C-demo", "//sp.example.com/old/*"], "labels": ["guest"],
            "networks": ["192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0"], "gateways": [w.stack.gateway_eui.upper()], "days": ["sat", "sun"],
            "from": "22:00", "to": "06:00", "lifetime": 60, "targets": ["C-desk", "maf.example.com"]}
    shown = w.ask("PUT", path + "a.b", full, 201)
    w.ask("PUT", path + "a.b", {k: v for k, v in shown.items() if k != "name"}, 200)  # what is shown can be written again
    if w.ask("GET", path + "a.b", want=200) != shown:
        w.wrong.append(f"{path}a.b: not what was written")
    for body in ({}, {"effect": "deny"}, {"effect": "maybe", "what": ["ticket"]}, {**full, "what": ["fly"]}, {**full, "what": []},
                 {**full, "ids": ["no id"]}, {**full, "ids": ["*"]}, {**full, "networks": ["192.0.2.1/24"]},
                 {**full, "networks": ["192.0.2.0/33"]}, {**full, "networks": ["192.0.2.0"]}, {**full, "networks": ["a/1"]},
                 {**full, "gateways": ["1"]}, {**full, "days": ["noday"]}, {**full, "from": "24:00"}, {**full, "from": "1:00"},
                 {"effect": "deny", "what": ["ticket"], "from": "01:00"}, {**full, "lifetime": 0}, {**full, "lifetime": -1},
                 {**full, "targets": ["node:7"]}, {**full, "targets": []}, {**full, "zap": 1}):
        w.ask("PUT", path + "a.b", body, 400)
    w.ask("PUT", path + "a%20b", full, 400)
    w.ask("GET", path + "a.b", want=404, token=w.tokens["rival"])
    for query, status in (("", 200), ("?limit=1&after=a", 200), ("?before=1", 400)):
        w.ask("GET", "/v1/policies" + query, want=status)
    order = {"cmdClassID": 2, "cmdArgs": {"devCfgCmdArgs": {"deviceConfigURI": f"3:coaps://{FQDN}/dm"}}}
    able = {"effect": "allow", "what": ["register"], "ids": ["C-nobody"]}
    for more, status in (({"commands": [order]}, 201), ({"commands": [order, {**order, "targetID": "C1"}]}, 200), ({"commands": []}, 400),
                         ({"commands": [{}]}, 400), ({"commands": [order] * 17}, 400), ({"commands": [order], "what": ["ticket"]}, 400),
                         ({"commands": [order], "effect": "deny"}, 400)):
        w.ask("PUT", path + "b", {**able, **more}, status)
    w.ask("GET", path + "b", want=200)
    for more, status in (({}, 200), ({"id": "C-nobody", "address": "2001:db8::1", "gateway": w.stack.gateway_eui, "labels": ["x"]}, 200),
                         ({"at": "2026-11-28T02:00:00Z"}, 200), ({"what": "fly"}, 400), ({"id": "no id"}, 400), ({"address": "here"}, 400),
                         ({"at": "now"}, 400), ({"zap": 1}, 400)):
        w.ask("POST", "/v1/verdicts", {"what": "register", "id": "C-demo", **more}, status)
    w.ask("DELETE", path + "a.b", want=204)
    w.ask("DELETE", path + "a.b", want=404)
    w.ask("DELETE", path + "b", want=204)


def credentials(w: Walk):
    path = "/v1/credentials/"
    made = [w.ask("POST", "/v1/credentials", {"for": who, "kind": "psk", **more}, 201)
            for who, more in (("C-demo", {}), ("S1", {"kpm": "0f" * 16}), ("/in-cse", {}), ("maf.example.com", {}),
                              ("gateway:hall", {"expiresAt": "2099-01-31T00:00:00Z"}), ("node:7", {}),
                              (random_eui64(), {}))]
    for body, status in (({}, 400), ({"for": "C-demo"}, 400), ({"for": "no id", "kind": "psk"}, 400),
                         ({"for": FQDN, "kind": "psk"}, 400), ({"for": "C-demo", "kind": "rpk"}, 400 if ssl.OPENSSL_VERSION_INFO >= (3, 2) else 501),
                         ({"for": "C-demo", "kind": "psk", "kpm": "00"}, 400),
                         ({"for": "C-demo", "kind": "certificate"}, 201), ({"for": "C-demo", "kind": "certificate"}, 409),
                         ({"for": "gateway:hall", "kind": "certificate", "san": "gw.example.com"}, 201),
                         ({"for": "gateway:hall", "kind": "certificate"}, 400), ({"for": "C-demo", "kind": "password"}, 400),
                         ({"for": "C-demo", "kind": "psk", "expiresAt": "2001-01-01T00:00:00Z"}, 400),
                         ({"for": "C-demo", "kind": "psk", "zap": 1}, 400)):
        w.ask("POST", "/v1/credentials", body, status)
    one = path + made[0]["id"]
    w.ask("GET", one, want=200)
    w.ask("GET", one, want=404, token=w.tokens["rival"])
    for query, status in (("", 200), ("?limit=2&after=5", 200), ("?limit=x", 400)):
        w.ask("GET", "/v1/credentials" + query, want=status)
    w.ask("DELETE", one, want=204)
    w.ask("DELETE", one, want=404)


def registrations(w: Walk):
    ae = w.stack.ae
    client = Client(w.stack, ("https", "psk"), AE_ID, FQDN, ("-psk_identity", ae["kpmId"], "-psk", ae["kpm"]))
    ri = client.register(lbl=["x"]).pc["ri"]
    for query, status in (("", 200), (f"?limit=1&after={'0' * 32}", 200), ("?limit=x", 400)):
        w.ask("GET", "/v1/registrations" + query, want=status)
    one, commands = f"/v1/registrations/{ri}", f"/v1/registrations/{ri}/commands"
    w.ask("GET", one, want=200)
    w.ask("GET", one, want=404, token=w.tokens["rival"])
    config = {"cmdClassID": 2, "cmdArgs": {"devCfgCmdArgs": {"deviceConfigURI": f"3:coaps://{FQDN}/dm"}}}
    examples = w.doc.tree["paths"]["/v1/registrations/{id}/commands"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    for body, status in ((examples["object"]["value"], 201), (config, 201), ({**config, "targetID": "C1"}, 201),
                         (examples["certificate"]["value"], 400), (examples["device configuration"]["value"], 400),
                         ({}, 400), ({**config, "cmdClassID": 0}, 400), ({**config, "cmdClassID": 1}, 400), ({**config, "zap": 1}, 400)):
        w.ask("POST", commands, body, status)
    w.ask("POST", commands, config, 404, token=w.tokens["rival"])
    w.ask("GET", commands, want=200)
    first = client.ask("GET", f"mef/{ri}/cmd").pc["cmi"]
    client.ask("PUT", f"mef/{ri}/cmd", content={"sec:mecc": {"cmi": first, "cmst": 304}})
    states = [row["state"] for row in w.ask("GET", commands, want=200)]
    assert states == ["done", "issued", "waiting"], states
    for command, status in (("2", 204), ("2", 404), ("1", 404), ("x", 404)):
        w.ask("DELETE", f"{commands}/{command}", want=status)
    given = {"fqdn": FQDN, "adminFQDN": "sp.example.com", "labels": ["x"], "expirationTime": "20400101T000000", "coapPort": 5684}
    w.ask("GET", one + "/configuration", want=404)
    for body, status in ((given, 201), (given, 200), ({}, 400), ({**given, "fqdn": "x"}, 400), ({**given, "httpPort": 0}, 400)):
        w.ask("PUT", one + "/configuration", body, status)
    w.ask("PUT", one + "/configuration", given, 404, token=w.tokens["rival"])
    w.ask("GET", one + "/configuration", want=200)
    for status in (204, 404):
        w.ask("DELETE", one + "/configuration", want=status)
    for _ in range(15):
        w.ask("POST", commands, config, 201)
    w.ask("POST", commands, config, 429)
    client.close()


def everywhere(w: Walk):
    """What holds for every operation: tokens, roles, unknown parameters; methods and paths that are not there."""
    for path, method, op in list(w.doc.operations()):
        if op.get("security") == []:
            continue
        target, body = concrete(path), {} if "requestBody" in op else None
        w.ask(method, target, body, 401, token=None)
        w.ask(method, target, body, 401, token="not-a-token-of-ours")
        w.ask(method, target + "?zap=1", body, 400)
        may = set(re.findall("admin|installer|viewer", op["description"].split(".")[0]))
        for role in ROLES:
            answer = w.ask(method, target, body, token=w.tokens[role])
            denied = isinstance(answer, dict) and answer.get("status") == 403
            if denied == (role in may):
                w.wrong.append(f"{method} {target}: {role} is {'refused' if denied else 'let in'}")
        if body is not None:
            for raw in (b"[]", b"{", b'{"a":1,"a":2}', b"\xff"):
                w.ask(method, target, raw, 400)
            w.ask(method, target, b"x" * 70000, 413)
            w.ask(method, target, body, 415, headers={"Content-Type": "text/xml"})
        w.ask(method, target, body, 406, headers={"Accept": "text/xml"})
    paths = [p for p, item in w.doc.tree["paths"].items() if p.startswith("/v1")]
    for path, method in itertools.product(paths, METHODS):
        if method not in w.doc.tree["paths"][path]:
            w.ask(method, concrete(path), want=405)
    for path in ("/", "/v1", "/v1/nothing", "/v1/devices/00158dffffffffff/rearm/now", "/v2/devices"):
        w.ask("GET", path)


def audit(w: Walk):
    page = w.ask("GET", "/v1/audit?limit=1000", want=200)
    w.ask("GET", f"/v1/audit?limit=2&before={page[-1]['seq'] + 1}", want=200)
    w.ask("GET", "/v1/audit?before=0", want=400)
    w.ask("GET", "/v1/events", want=406)
    w.watch("/v1/events")


def status_pages(w: Walk):
    """Plain HTTP, on the other address; at last while mefd ends."""
    w.connection = http.client.HTTPConnection("127.0.0.1", w.stack.status, timeout=10)
    for page in ("/healthz", "/readyz", "/metrics"):
        w.ask("GET", page, want=200, token=None)
    w.stack.mefd.child.send_signal(signal.SIGTERM)
    try:
        while ("/readyz", "get", "503") not in w.seen:
            w.ask("GET", "/readyz", token=None)
    except (http.client.HTTPException, OSError):
        pass  # gone; the check of what was seen tells


def new_walk(doc, stack) -> Walk:
    w = Walk(doc, stack)
    w.tokens = {name: (stack.folder / f"{name}.token").read_text().strip() for name in (*ROLES, "rival")}
    return w


def token_sections(folder: Path) -> dict:
    out = {}
    for name in (*ROLES, "rival"):
        section, rival = f"token.{name}-walk", name == "rival"
        out[section, "file"] = write_private(folder / f"{name}.token", f"{name}-token-of-the-walk\n")
        out[section, "admin-fqdn"] = "rival.example.org" if rival else FQDN
        out[section, "role"] = "admin" if rival else name
    return out


def walk_all(c, doc, build, folder) -> list:
    stack = Stack(build, folder)
    try:
        stack.start(token_sections(folder))
        eui, code = random_eui64(), install_code()
        stack.register_code(eui, code)
        joiner = stack.join(eui, code)
        stack.wait_state(eui, "enrolled", 30)
        joiner.stop(signal.SIGKILL)
        w = new_walk(doc, stack)
        for part in (install_codes, gateways, lambda w: devices(w, eui), applications, policies, credentials, registrations, everywhere,
                     audit):
            part(w)
        w.report(c, "operator REST")
        s = new_walk(doc, stack)
        status_pages(s)
        s.report(c, "status pages")
        stack.mefd.child.wait(20)
        stack.mefd = None
        return [w, s]
    finally:
        stack.stop()


def walk_limits(c, doc, build, folder) -> list:
    stack = Stack(build, folder)
    limits = {("mef", "max-credentials"): 1, ("mef", "max-applications"): 1, ("mef", "max-policies"): 1,
              ("eg", "max-devices"): 1, ("eg", "max-gateways"): 1}
    try:
        stack.init({**limits, **token_sections(folder)})
        stack.start_mefd()
        w = new_walk(doc, stack)
        identity = w.ask("POST", "/v1/credentials", {"for": "gateway:one", "kind": "psk"}, 201)["kpmId"]
        w.ask("POST", "/v1/credentials", {"for": "gateway:two", "kind": "psk"}, 429)
        for name, status in (("one", 201), ("two", 429)):
            w.ask("PUT", f"/v1/applications/{name}", {"members": []}, status)
            w.ask("PUT", f"/v1/policies/{name}", {"effect": "deny", "what": ["ticket"]}, status)
        for status in (201, 503):
            w.ask("PUT", f"/v1/gateways/{random_eui64()}", {"identity": identity}, status)
            w.ask("PUT", f"/v1/install-codes/{random_eui64()}", {"installCode": install_code()}, status)
        w.ask("POST", "/v1/install-codes", {"label": f"{random_eui64()}|{install_code()}"}, 503)
        w.report(c, "limits")
        return [w]
    finally:
        stack.stop()


def run(c, build: Path):
    doc = Document(DOCS / "rest-api.yaml")
    validate(c, doc)
    compare_with_source(c, doc)
    folder = Path(tempfile.mkdtemp(prefix="mef-docs-"))
    try:
        walks = walk_all(c, doc, build, folder / "all") + walk_limits(c, doc, build, folder / "limits")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seen, codes = set().union(*(w.seen for w in walks)), set().union(*(w.codes for w in walks)) - {None}
    c.check("every documented answer was given", [
        f"{method} {path} {status}" for path, method, op in doc.operations() for status in op["responses"]
        if status != "default" and (path, method, status) not in seen])
    known = doc.tree["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    c.differ("every documented code was given", set(known) - set(NOT_SHOWN), codes)


if __name__ == "__main__":
    sys.exit(main(run, __doc__))
