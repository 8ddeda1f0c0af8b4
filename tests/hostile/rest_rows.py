"""The operator REST (docs/rest-api.md): every route with what it does not take."""
import json
import ssl

from engine import Row
from http_rows import http
from mmef_rows import JSON_FORMS, MALFORMED

RESOURCES = ("install code: ", "gateway: ", "application: ", "policy: ", "credential: ", "command: ", "configuration: ")

EUI = "00124b00000000ff"
CODE = "83FED3407A939723A5C639B26916D505C3B5"
BAD_CRC = CODE[:-1] + "6"
PUBLIC = "5A6967426565416C6C69616E63653039"  # "ZigBeeAlliance09"


DEV_CFG = {"cmdClassID": 2, "cmdArgs": {"devCfgCmdArgs": {"deviceConfigURI": "1:https://mef.example.org/"}}}


def ask(w, method, target, body=None, token="admin", fields=()) -> bytes:
    text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return http(w, method, target, fields, text, token=token)


def operators(w):
    yield Row("no token", "https", ask(w, "GET", "/v1/devices", token=None), "401 no-token")
    for name, value in {"wrong": "Bearer " + "x" * 43, "empty": "Bearer ", "Basic": "Basic YTpi",
                        "no scheme": w.tokens["admin"], "cut off": "Bearer " + w.tokens["admin"][:-1],
                        "one more letter": f"Bearer {w.tokens['admin']}x",
                        "in quotes": f'Bearer "{w.tokens["admin"]}"', "of 4 KiB": "Bearer " + "x" * 4096,
                        "two of them": f"Bearer {w.tokens['admin']} {w.tokens['admin']}",
                        "no UTF-8": "Bearer \xff\xfe"}.items():
        expect = {"Basic": "401 no-token", "no scheme": "401 no-token", "no UTF-8": "400", "of 4 KiB": "400"}.get(name,
                "401 bad-token")
        yield Row(f"token {name}", "https", ask(w, "GET", "/v1/devices", token=None,
                fields=[f"Authorization: {value}"]), expect)
    yield Row("no token, no such path: nothing is told", "https", ask(w, "GET", "/v1/nothing", token=None),
              "401 no-token")
    changes = [("PUT", f"/v1/gateways/{EUI}", {}), ("DELETE", f"/v1/gateways/{w.gateway}", None),
               ("PUT", "/v1/applications/x", {}),
               ("DELETE", "/v1/applications/room", None), ("PUT", "/v1/policies/x", {}), ("DELETE", "/v1/policies/x", None),
               ("POST", "/v1/credentials", {}),
               ("DELETE", "/v1/credentials/x", None), ("POST", f"/v1/registrations/{w.registration}/commands", {}),
               ("DELETE", f"/v1/registrations/{w.registration}/commands/2", None),
               ("PUT", f"/v1/registrations/{w.registration}/configuration", {}),
               ("DELETE", f"/v1/registrations/{w.registration}/configuration", None)]
    installs = [("PUT", f"/v1/install-codes/{EUI}", {}), ("DELETE", f"/v1/install-codes/{w.eui}", None),
                ("POST", "/v1/install-codes", {}),
                ("POST", f"/v1/devices/{w.eui}/revoke", None), ("POST", f"/v1/devices/{w.eui}/rearm", None)]
    reads = ["gateways", f"gateways/{w.gateway}", "applications", "applications/room", "policies", "policies/x", "credentials",
             "audit", "events", "registrations", f"registrations/{w.registration}", f"registrations/{w.registration}/commands"]
    for method, target, body in changes:
        yield Row(f"installer: {method} {target}", "https", ask(w, method, target, body, "installer"), "403 role")
    for method, target, body in changes + installs:
        yield Row(f"viewer: {method} {target}", "https", ask(w, method, target, body, "viewer"), "403 role")
    for path in reads:
        yield Row(f"installer: GET {path}", "https", ask(w, "GET", f"/v1/{path}", token="installer"), "403 role")
    for path in (f"install-codes/{w.eui}", f"devices/{w.eui}", f"gateways/{w.gateway}", "applications/room",
                 f"credentials/{w.credentials['ae']['kpmId']}", f"registrations/{w.registration}",
                 f"registrations/{w.registration}/commands"):
        yield Row(f"another stakeholder: GET {path}", "https", ask(w, "GET", f"/v1/{path}", token="stranger"),
                  "404 not-found")
    for method, path, body, expect in (("DELETE", f"install-codes/{w.eui}", None, "404 not-found"),
                                       ("POST", f"devices/{w.eui}/revoke", None, "404 not-found"),
                                       ("DELETE", f"gateways/{w.gateway}", None, "404 not-found"),
                                       ("DELETE", "applications/room", None, "404 not-found"),
                                       ("DELETE", f"credentials/{w.credentials['ae']['kpmId']}", None, "404 not-found"),
                                       ("POST", f"registrations/{w.registration}/commands", DEV_CFG, "404 not-found"),
                                       ("DELETE", f"registrations/{w.registration}/commands/1", None, "404 not-found"),
                                       ("PUT", f"install-codes/{w.eui}", {"installCode": CODE}, "409 exists"),
                                       ("PUT", f"gateways/{EUI}", {"identity": w.credentials["gw"]["kpmId"]},
                                        "400 not-a-gateway-credential identity")):
        yield Row(f"another stakeholder: {method} {path}", "https", ask(w, method, f"/v1/{path}", body, "stranger"),
                  expect)


ROUTES = {"install-codes": "GET POST", "install-codes/{eui}": "GET PUT DELETE", "gateways": "GET",
          "gateways/{gateway}": "GET PUT DELETE", "devices": "GET",
          "devices/{eui}": "GET", "devices/{eui}/revoke": "POST", "applications": "GET",
          "applications/room": "GET PUT DELETE", "credentials": "GET POST",
          "policies": "GET", "policies/x": "GET PUT DELETE", "verdicts": "POST",
          "credentials/{kpm}": "GET DELETE", "registrations": "GET", "registrations/{ri}": "GET",
          "registrations/{ri}/commands": "GET POST", "registrations/{ri}/commands/1": "DELETE",
          "registrations/{ri}/configuration": "GET PUT DELETE", "audit": "GET", "events": "GET"}


def routes(w):
    names = {"eui": w.eui, "gateway": w.gateway, "kpm": w.credentials["ae"]["kpmId"], "ri": w.registration}
    for pattern, methods in ROUTES.items():
        for method in ("GET", "POST", "PUT", "DELETE"):
            if method not in methods.split():
                body = {} if method in ("POST", "PUT") else None
                yield Row(f"{method} {pattern}", "https", ask(w, method, "/v1/" + pattern.format(**names), body),
                          "405 method")
    for path in ("nothing", "", "devices/x/y/z", "Devices", "install-codes/x/y", "applications/x/y"):
        yield Row(f"GET v1/{path}", "https", ask(w, "GET", "/v1/" + path), "404 no-such-path")
    yield Row("events as JSON", "https", ask(w, "GET", "/v1/events"), "406 not-acceptable")


def queries(w):
    for q, expect in {"limit=0": "400 bad-value limit", "limit=1001": "400 bad-value limit",
                      "limit=-1": "400 bad-value limit", "limit=x": "400 bad-value limit",
                      "limit=": "400 bad-value limit",
                      "limit": "400 bad-value limit", "limit=1e1": "400 bad-value limit",
                      "limit=%201": "400 bad-value limit", "limit=99999999999999999999": "400 bad-value limit",
                      "after=zz": "400 bad-value after", "after=": "400 bad-value after",
                      "zap=1": "400 unknown-parameter zap", "LIMIT=1": "400 unknown-parameter LIMIT",
                      "limit=1&limit=2": "400 duplicate limit", "before=1": "400 unknown-parameter before"}.items():
        yield Row(f"devices?{q}", "https", ask(w, "GET", f"/v1/devices?{q}"), expect)
    for q in ("before=0", "before=-1", "before=x", "before=9999999999999999999999"):
        yield Row(f"audit?{q}", "https", ask(w, "GET", f"/v1/audit?{q}"), "400 bad-value before")
    yield Row("query of one device", "https", ask(w, "GET", f"/v1/devices/{w.eui}?limit=1"),
              "400 unknown-parameter limit")
    yield Row("replace=maybe", "https", ask(w, "PUT", f"/v1/install-codes/{w.eui}?replace=maybe",
            {"installCode": CODE}), "400 bad-value replace")


def codes(w):
    def put(name, body, expect, eui=EUI):
        return Row(f"install code: {name}", "https", ask(w, "PUT", f"/v1/install-codes/{eui}", body), expect)
    good = {"installCode": CODE}
    for eui in ("0", "zz" * 8, "00124b00000000f", "00124b00000000ff0", "0x124b00000000ff", "%20" * 16):
        yield put(f"EUI-64 {eui}", good, "400 bad-value eui64", eui)
    for eui in ("0" * 16, "f" * 16):
        yield put(f"EUI-64 {eui}", good, "400 bad-value eui64", eui)
    yield put("no body", None, "400 body-missing")
    yield put("neither code nor key", {}, "400 missing installCode")
    yield put("both code and key", {**good, "linkKey": "00" * 16}, "400 both-given installCode")
    for name, code, expect in (("wrong CRC", BAD_CRC, "bad-crc"),
                               ("bytes swapped in the CRC", CODE[:-4] + "B5C3", "bad-crc"),
                               ("no CRC", CODE[:-4], "bad-length"), ("one digit", "8", "bad-length"),
                               ("odd digits", CODE + "0", "bad-length"), ("no hex", "Z" + CODE[1:], "bad-hex"),
                               ("a code of 6 bytes", "83FED3407A932B70", "short-code"),
                               ("full-width digits", "\uff18" + CODE[1:], "bad-hex"),
                               ("120 digits", "0" * 120, "bad-length")):
        yield put(name, {"installCode": code}, f"400 {expect} installCode")
    for name, value in (("empty", ""), ("number", 1), ("null", None), ("array", []), ("object", {}),
                        ("of 1000 digits", "0" * 1000), ("with a NUL", CODE + "\0")):
        yield put(name, {"installCode": value}, "400" if name == "with a NUL" else "400 bad-value installCode")
    for name, key, expect in (("15 bytes", "ab" * 15, "bad-length"), ("17 bytes", "ab" * 17, "bad-length"),
                              ("no hex", "z" * 32, "bad-hex"), ("well known", PUBLIC, "public-key"),
                              ("all zero", "00" * 16, "public-key"), ("all ones", "ff" * 16, "public-key")):
        yield put(f"link key, {name}", {"linkKey": key}, f"400 {expect} linkKey")
    for name, more, expect in (("unknown member", {"zap": 1}, "unknown-member zap"),
                               ("application number", {"application": 1}, "bad-value application"),
                               ("application empty", {"application": ""}, "bad-value application"),
                               ("targets text", {"targets": "C1"}, "bad-value targets"),
                               ("target number", {"targets": [1]}, "bad-value targets"),
                               ("target no id", {"targets": ["a b"]}, "bad-value targets"),
                               ("targets 1000", {"targets": ["C1"] * 1000}, "bad-value targets"),
                               ("gateways text", {"gateways": "x"}, "bad-value gateways"),
                               ("gateway no EUI-64", {"gateways": ["x"]}, "bad-value gateways"),
                               ("expiresAt number", {"expiresAt": 1}, "bad-value expiresAt"),
                               ("expiresAt past", {"expiresAt": "2001-01-01T00:00:00Z"}, "past expiresAt"),
                               ("expiresAt no time", {"expiresAt": "soon"}, "bad-value expiresAt"),
                               ("expiresAt 30 February", {"expiresAt": "2099-02-30T00:00:00Z"}, "bad-value expiresAt"),
                               ("expiresAt without a zone", {"expiresAt": "2099-01-01T00:00:00"},
                                "bad-value expiresAt")):
        yield put(name, {**good, **more}, f"400 {expect}")
    yield put("member twice", b'{"installCode":"%s","installCode":"%s"}' % (CODE.encode(), CODE.encode()), "400")
    for name, body in (("array", b"[]"), ("text", b'"x"'), ("number", b"1"), ("null", b"null")):
        yield put(f"body {name}", body, "400 bad-type" if name == "array" else "400")
    for name, body in (("cut off", b'{"installCode"'), ("two values", b"{}{}"), ("deep", b"[" * 600 + b"]" * 600),
                       ("no UTF-8", b'{"installCode":"\xff"}')):
        yield put(f"body {name}", body, "400")
    yield put("another code for an enrolled device", {"installCode": CODE}, "409 device-enrolled", w.eui)
    for name, label, expect in (("no label", None, "missing label"), ("number", 1, "bad-value label"),
                                ("nonsense", "hello", "unknown-format label")):
        yield Row(f"label: {name}", "https", ask(w, "POST", "/v1/install-codes",
                {} if label is None else {"label": label}), f"400 {expect}")
    yield Row("delete of no code", "https", ask(w, "DELETE", f"/v1/install-codes/{EUI}"), "404 not-found")
    for what in ("revoke", "rearm", "rekey"):
        yield Row(f"{what} of no device", "https", ask(w, "POST", f"/v1/devices/{EUI}/{what}"), "404 not-found")
    yield Row("an act that is none", "https", ask(w, "POST", f"/v1/devices/{w.eui}/explode"), "404 unknown-action")
    yield Row("rekey", "https", ask(w, "POST", f"/v1/devices/{w.eui}/rekey"), "501 not-implemented")


def objects(w):
    def row(name, path, body, expect, method="PUT"):
        return Row(name, "https", ask(w, method, f"/v1/{path}", body), expect)
    yield from gateways(row, w)
    yield from applications(row)
    yield from policies(row)
    yield from credentials(row)


def gateways(row, w):
    gw, identity = f"gateways/{EUI}", w.credentials["gw"]["kpmId"]
    yield row("gateway: no identity", gw, {}, "400 missing identity")
    for value in (1, "", None, [], "x" * 1000):
        yield row(f"gateway: identity {str(value)[:10]!r}", gw, {"identity": value}, "400 bad-value identity")
    for value in ("nobody", w.credentials["ae"]["kpmId"]):
        yield row(f"gateway: identity of {'an AE' if '@' in value else 'nobody'}", gw, {"identity": value},
                  "400 not-a-gateway-credential identity")
    for name, value in (("name", 1), ("name", "a\n"), ("panIds", 1), ("panIds", [65535]), ("panIds", [-1]),
                        ("panIds", [1.5]), ("panIds", ["1a62"]), ("panIds", list(range(500))),
                        ("applications", ["a", 1]), ("firstKeyForm", "fancy"), ("firstKeyForm", True)):
        yield row(f"gateway: {name} {str(value)[:20]}", gw, {"identity": identity, name: value},
                  f"400 bad-value {name}")
    yield row("gateway: unknown member", gw, {"identity": identity, "epoch": 1}, "400 unknown-member epoch")
    yield row("gateway: EUI-64 of letters", "gateways/hall", {"identity": identity}, "400 bad-value eui64")
    yield row("gateway: EUI-64 of zero", "gateways/" + "0" * 16, {"identity": identity}, "400 bad-value eui64")
    yield row("gateway: delete of none", gw, None, "404 not-found", "DELETE")


def applications(row):
    for name, body, expect in (("no members", {}, "missing members"),
                               ("members text", {"members": "C1"}, "bad-value members"),
                               ("member number", {"members": [1]}, "bad-value members"),
                               ("member no id", {"members": ["a b"]}, "bad-value members"),
                               ("member empty", {"members": [""]}, "bad-value members"),
                               ("keyScope unknown", {"members": [], "keyScope": "galaxy"}, "bad-value keyScope"),
                               ("lifetime -1", {"members": [], "lifetime": -1}, "bad-value lifetime"),
                               ("lifetime 1.5", {"members": [], "lifetime": 1.5}, "bad-value lifetime"),
                               ("lifetime 1e300", {"members": [], "lifetime": 1e300}, "bad-value lifetime"),
                               ("lifetime text", {"members": [], "lifetime": "1"}, "bad-value lifetime"),
                               ("unknown member", {"members": [], "zap": 1}, "unknown-member zap"),
                               ("twice", b'{"members":[],"members":[]}', "duplicate members")):
        yield row(f"application: {name}", "applications/x", body, "400" if name == "twice" else f"400 {expect}")
    for name in ("a%20b", "a" * 65, "%C3%A4", "a%3Ab"):
        yield row(f"application of name {name[:8]}", f"applications/{name}", {"members": []}, "400 bad-value name")
    yield row("application: delete of none", "applications/none", None, "404 not-found", "DELETE")


def credentials(row):
    for name, body, expect in (("empty", {}, "400 missing for"), ("no kind", {"for": "C1"}, "400 missing kind"),
                               ("kind unknown", {"for": "C1", "kind": "x"}, "400 bad-value kind"),
                               ("certificate of a gateway without a name", {"for": "gateway:1", "kind": "certificate"},
                                "400 bad-value san"),
                               ("certificate with a wildcard", {"for": "C1", "kind": "certificate", "san": "*.example.org"},
                                "400 bad-value san"),
                               ("certificate with a key", {"for": "C1", "kind": "certificate", "kpm": "00" * 16},
                                "400 bad-value kpm"),
                               ("psk with a name", {"for": "C1", "kind": "psk", "san": "gw.example.org"}, "400 bad-value san"),
                               ("rpk without a name", {"for": "C1", "kind": "rpk"},
                                "400 bad-value san" if ssl.OPENSSL_VERSION_INFO >= (3, 2) else "501 not-implemented kind"),
                               ("certificate with a key's name",
                                {"for": "C1", "kind": "certificate", "san": "ni:///sha-256;" + "A" * 43}, "400 bad-value san"),
                               ("for the MEF itself", {"for": "mef.example.org", "kind": "psk"}, "400 bad-value for"),
                               ("for no id", {"for": "a b", "kind": "psk"}, "400 bad-value for"),
                               ("for a number", {"for": 1, "kind": "psk"}, "400 bad-value for"),
                               ("for of 1000 letters", {"for": "C" * 1000, "kind": "psk"}, "400 bad-value for"),
                               ("kpm of 15 bytes", {"for": "C1", "kind": "psk", "kpm": "ab" * 15}, "400 bad-value kpm"),
                               ("kpm of 65 bytes", {"for": "C1", "kind": "psk", "kpm": "ab" * 65},
                                "400 bad-value kpm"), ("kpm odd", {"for": "C1", "kind": "psk", "kpm": "ab" * 16 + "a"},
                                        "400 bad-value kpm"),
                                        ("kpm no hex", {"for": "C1", "kind": "psk", "kpm": "zz" * 16},
                                                "400 bad-value kpm"),
                               ("past", {"for": "C1", "kind": "psk", "expiresAt": "2001-01-01T00:00:00Z"},
                                "400 past expiresAt"), ("kpmId chosen", {"for": "C1", "kind": "psk", "kpmId": "x"},
                                        "400 unknown-member kpmId"),
                               ("an AE that acts for another", {"for": "C1", "kind": "psk", "actsFor": ["C2"]}, "400 bad-value actsFor"),
                               ("a gateway that acts for AEs", {"for": "gateway:1", "kind": "psk", "actsFor": ["C2"]},
                                "400 bad-value actsFor"),
                               *((f"a node that acts for {str(ids)[:20]}", {"for": "node:1", "kind": "psk", "actsFor": ids},
                                  "400 bad-value actsFor") for ids in
                                 ("C2", [], [1], [""], ["C2", "node:2"], ["maf.example.org"], ["C" * 256], [f"C{n}" for n in range(65)])),
                               ("role chosen", {"for": "C1", "kind": "psk", "role": "gateway"},
                                "400 unknown-member role"), ("twice", b'{"for":"C1","for":"C1","kind":"psk"}', "400")):
        yield row(f"credential: {name}", "credentials", body, expect, "POST")
    yield row("credential: no body", "credentials", None, "400 body-missing", "POST")
    yield row("credential: delete of none", "credentials/none", None, "404 not-found", "DELETE")


def policies(row):
    good = {"effect": "deny", "what": ["ticket"]}
    wrong = {"effect": (None, 1, "", "DENY", "allow ", "x" * 1000), "what": (None, "ticket", [], ["fly"], ["ticket", 1], [""], ["ticket"] * 6),
             "ids": (1, "C1", [], ["a b"], ["*"], ["//a.b/*x"], ["//a.b/*/*"], ["C1*"], [None], ["C1"] * 65),
             "labels": ("x", [], [""], ["a\n"], [1], ["x"] * 17),
             "networks": ("192.0.2.0/24", [], ["192.0.2.0"], ["192.0.2.0/"], ["192.0.2.0/33"], ["192.0.2.1/24"], ["192.0.2.0/-1"],
                          ["192.0.2.0/ 8"], ["192.0.2.0/0x8"], ["192.0.2.0/24/1"], ["192.0.2/24"], ["::/129"], ["::1/64"], ["/8"],
                          ["x" * 250 + "/8"], ["::/99999999999999999999"], ["::/0"] * 17),
             "gateways": ([], ["1"], [1], ["00124b00aabbccdg"], ["00124b00aabbccdd"] * 17),
             "days": ([], ["Mon"], ["monday"], [1], ["mon"] * 8), "lifetime": (0, -1, 1.5, 1e300, "1", None),
             "commands": ([], [DEV_CFG], DEV_CFG, [1], "x", [{}] * 17), "targets": ([], ["node:1"], ["gateway:x"], ["a b"], ["C1"] * 65)}
    for member, values in wrong.items():
        for value in values:
            yield row(f"policy: {member} {str(value)[:24]!r}", "policies/x", {**good, member: value}, f"400 bad-value {member}")
    for time in ("24:00", "12:60", "1:00", "01:0", "0100", "-1:00", "+1:00", "01:00:00", "01-00", " 1:00", "", 60):
        yield row(f"policy: from {time!r}", "policies/x", {**good, "from": time, "to": "00:00"}, "400 bad-value from")
        yield row(f"policy: to {time!r}", "policies/x", {**good, "from": "00:00", "to": time}, "400 bad-value to")
    able = {"effect": "allow", "what": ["register"]}
    for name, order, expect in (("NO_MORE_COMMANDS", {**DEV_CFG, "cmdClassID": 0}, "bad-value cmdClassID"), ("empty", {}, "missing cmdClassID"),
                                ("arguments of another class", {**DEV_CFG, "cmdClassID": 3}, "unknown-member devCfgCmdArgs"),
                                ("unknown member", {**DEV_CFG, "zap": 1}, "unknown-member zap")):
        yield row(f"policy: command, {name}", "policies/x", {**able, "commands": [DEV_CFG, order]}, f"400 {expect}")
    yield row("policy: a window without length", "policies/x", {**good, "from": "08:00", "to": "08:00"}, "400 bad-value to")
    asked = {"what": "ticket", "id": "C1"}
    for member, values in {"what": (1, "fly", "", "x" * 1000), "id": ("", "a b", 1, "x" * 256), "address": ("", "1", "127.0.0.1:1", "[::1]", "::g", 2, "1" * 99),
                           "gateway": ("", "1", 2, "00124b00aabbccdg"), "at": ("", "noon", 1, "1969-12-31T23:59:59Z"), "labels": ("x", [1], ["x"] * 17)}.items():
        for value in values:
            yield row(f"verdict: {member} {str(value)[:24]!r}", "verdicts", {**asked, member: value}, f"400 bad-value {member}", "POST")
    for body, expect in (({}, "missing what"), ({"what": "ticket"}, "missing id"), ({**asked, "zap": 1}, "unknown-member zap"), ([], "bad-type"),
                         (None, "bad-type")):
        yield row(f"verdict: {expect} of {body}", "verdicts", body, f"400 {expect}", "POST")
    for body, expect in (({}, "missing effect"), ({"effect": "deny"}, "missing what"), ({**good, "from": "01:00"}, "missing to"),
                         ({**good, "to": "01:00"}, "missing from"), ({**good, "zap": 1}, "unknown-member zap"),
                         ({**good, "name": "x"}, "unknown-member name")):
        yield row(f"policy: {expect}", "policies/x", body, f"400 {expect}")
    yield row("policy: twice", "policies/x", b'{"effect":"deny","effect":"deny","what":["ticket"]}', "400")
    for name in ("a%20b", "a" * 65, "%C3%A4", "a%3Ab"):
        yield row(f"policy of name {name[:8]}", f"policies/{name}", good, "400 bad-value name")
    yield row("policy: delete of none", "policies/none", None, "404 not-found", "DELETE")


def commands(w):
    path = f"registrations/{w.registration}/commands"
    est = {"certProvProtocolID": 1, "URI": "https://mef.example.org/est", "certSubjectType": 3, "certSubjectID": "C1"}
    node = {"objectPath": "./a", "objectTypeID": 1, "objectTypeSpecifcArgs": {"SUID": 22}}

    def row(name, body, expect, method="POST", at=path):
        return Row(f"command: {name}", "https", ask(w, method, f"/v1/{at}", body), expect)
    for field, values in {"certProvProtocolID": (0, 3, -1, 1.5, "1", None, True), "certSubjectType": (0, 4, "3", None),
                          "URI": ("", 1, None, "https://evil.example.com/", "https://mef.example.org.evil.com", "mef.example.org",
                                  "https://a@mef.example.org", "https://mef.example.org:x", "https://mef.example.org/\u00e9",
                                  "https://mef.example.org/" + "x" * 255),
                          "certSubjectID": ("", "//example.org/in-cse", "x y", 1, ["C1"])}.items():
        for n, value in enumerate(values):
            body = {"cmdClassID": 1, "cmdArgs": {"certProvCmdArgs": {**est, field: value}}}
            yield row(f"{field} {n}", body, f"400 bad-value {field}")
    for field, values in {"objectPath": ("", "a b", 1, "x" * 256), "objectTypeID": (0, 4, "1"), "objectTypeSpecifcArgs": (1, [], "x")}.items():
        for n, value in enumerate(values):
            body = {"cmdClassID": 3, "cmdArgs": {"MONodeCmdArgs": {**node, field: value}}}
            yield row(f"{field} {n}", body, f"400 bad-value {field}")
    for n, suid in enumerate((10, 14, 20, 24, 25, 44, -11, 22.5, "22")):
        body = {"cmdClassID": 3, "cmdArgs": {"MONodeCmdArgs": {**node, "objectTypeSpecifcArgs": {"SUID": suid}}}}
        yield row(f"SUID {n}", body, "400 bad-value SUID")
    for n, value in enumerate(("", "1", "1:", "0:https://mef.example.org", "5:https://mef.example.org", "https://mef.example.org",
                               "1:https://evil.example.com", 1, None)):
        yield row(f"deviceConfigURI {n}", {"cmdClassID": 2, "cmdArgs": {"devCfgCmdArgs": {"deviceConfigURI": value}}},
                  "400 bad-value deviceConfigURI")
    for name, body, expect in (("empty", {}, "400 missing cmdClassID"), ("class 0", {**DEV_CFG, "cmdClassID": 0}, "400 bad-value cmdClassID"),
                               ("class 4", {**DEV_CFG, "cmdClassID": 4}, "400 bad-value cmdClassID"),
                               ("class as text", {**DEV_CFG, "cmdClassID": "2"}, "400 bad-value cmdClassID"),
                               ("arguments of another class", {**DEV_CFG, "cmdClassID": 3}, "400 unknown-member devCfgCmdArgs"),
                               ("no arguments", {"cmdClassID": 2}, "400 missing cmdArgs"),
                               ("empty arguments", {"cmdClassID": 2, "cmdArgs": {}}, "400 missing devCfgCmdArgs"),
                               ("arguments as text", {"cmdClassID": 2, "cmdArgs": "x"}, "400 bad-value cmdArgs"),
                               ("two classes", {"cmdClassID": 2, "cmdArgs": {**DEV_CFG["cmdArgs"], "MONodeCmdArgs": node}},
                                "400 unknown-member MONodeCmdArgs"),
                               ("target no id", {**DEV_CFG, "targetID": "maf.example.org"}, "400 bad-value targetID"),
                               ("unknown member", {**DEV_CFG, "zap": 1}, "400 unknown-member zap"),
                               ("an array", [DEV_CFG], "400 bad-type"), ("twice a member", b'{"cmdClassID":2,"cmdClassID":2}', "400")):
        yield row(name, body, expect)
    cfg = {"fqdn": "mef.example.org", "adminFQDN": "sp.example.org"}
    for name, change, expect in (("empty", None, "400 missing fqdn"), ("no FQDN", {"fqdn": "x"}, "400 bad-value fqdn"),
                                 ("a URI", {"fqdn": "https://mef.example.org"}, "400 bad-value fqdn"),
                                 ("FQDN null", {"fqdn": None}, "400 bad-value fqdn"),
                                 ("no stakeholder", {"adminFQDN": "a b.c"}, "400 bad-value adminFQDN"),
                                 ("time in RFC 3339", {"expirationTime": "2040-01-01T00:00:00Z"}, "400 bad-value expirationTime"),
                                 ("labels as text", {"labels": "x"}, "400 bad-value labels"),
                                 ("17 labels", {"labels": ["x"] * 17}, "400 bad-value labels"),
                                 *((f"{port} {n}", {port: n}, f"400 bad-value {port}") for port in ("httpPort", "coapPort", "websocketPort")
                                   for n in (0, -1, 65536, 1.5, "443")), ("unknown member", {"zap": 1}, "400 unknown-member zap")):
        body = {} if change is None else {**cfg, **change}
        yield Row(f"configuration: {name}", "https", ask(w, "PUT", f"/v1/registrations/{w.registration}/configuration", body), expect)
    for name, method, ri, body in (("of no registration", "PUT", w.own, cfg), ("that is none", "GET", w.bare, None),
                                   ("delete of none", "DELETE", w.bare, None)):
        yield Row(f"configuration: {name}", "https", ask(w, method, f"/v1/registrations/{ri}/configuration", body), "404 not-found")
    yield row("no body", None, "400 body-missing")
    yield row("for no registration", DEV_CFG, "404 not-found", at=f"registrations/{'0' * 32}/commands")
    yield row("for a key", DEV_CFG, "404 not-found", at=f"registrations/{w.own}/commands")
    for n, cmd in enumerate(("0", "1", "2", "-1", "x", "999999999999999")):  # 1 is a NO_MORE_COMMANDS, none of the operator's
        yield row(f"delete {n}", None, "404 not-found", "DELETE", f"{path}/{cmd}")
    yield row("delete of a long id", None, "404 no-such-path", "DELETE", f"{path}/{'1' * 40}")


def forms(w):
    """What is no JSON, or no object."""
    for name, method, path in (("gateway", "PUT", f"gateways/{EUI}"), ("application", "PUT", "applications/x"),
                               ("credential", "POST", "credentials"),
                               ("configuration", "PUT", f"registrations/{w.registration}/configuration")):
        for form in MALFORMED:
            yield Row(f"{name}: JSON, {form}", "https", ask(w, method, f"/v1/{path}", JSON_FORMS[form]), "400")
        for form in ("array", "an array of 400 nulls"):
            yield Row(f"{name}: JSON, {form}", "https", ask(w, method, f"/v1/{path}", JSON_FORMS[form]), "400 bad-type")


def rows(w):
    for table in (operators, routes, queries, codes, objects, commands, forms):
        yield from table(w)
