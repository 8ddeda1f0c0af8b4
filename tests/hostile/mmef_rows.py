"""Mmef primitives: TS-0004 7.2.1, 7.3; TS-0008 6.2; attribute tables of docs/mmef-example.md. Those of a resource (MEFBase,
mecr, mecc, skr) go over both bindings."""
import json

from coap_rows import BASE, CLIENT_CMD, CLIENT_REG, FAR, KEY_REG, PAST
from coapclient import CBOR, DELETE, FR, GET, POST, PUT, RQI, RVI, TY, URI_QUERY, uint
from engine import Primitive, Row, coap

# What the names of their rows begin with; these go by certificate as well as by pre-shared key.
RESOURCES = ("MEFBase: ", "mecr: ", "mecc: ", "mecf: ", "skr: ", "fetch: ")
QUERIES = ("rcn=0", "rcn=2", "rcn=3", "rcn=4", "rcn=7", "rcn=9", "rcn=-1", "rcn=", "rcn", "rcn=1x", "atrl=et", "lvl=1", "=1", "zz=1")
KEY = "AAECAwQFBgcICQoLDA0ODw=="
CODES = {2004: ("2.04", 200), 4000: ("4.00", 400), 4004: ("4.04", 404), 4005: ("4.05", 405), 4015: ("4.15", 415), 4103: ("4.03", 403),
         4108: ("4.03", 403), 4117: ("4.03", 403), 5001: ("5.01", 501)}


def both(w, name, rsc, primitive, who="ae"):
    by_coap, by_http = CODES[rsc]
    yield Row(name, f"coap:{who}", primitive.coap(w.origins[who]), f"{by_coap} {rsc}")
    yield Row(f"{name}, HTTPS", f"primitive:{who}", primitive, f"{by_http} {rsc}")


def create(body, ty=CLIENT_REG, path="mef", **more):
    return Primitive("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), ty, **more)


def update(path, body):
    return Primitive("PUT", path, body if isinstance(body, bytes) else json.dumps(body).encode())


def fetches(w):
    """/fetchCredentials/<KeID>/<security usage> (TS-0003 8.3.2.1)."""
    def ask(path, method="GET", body=b"", **more):
        return Primitive(method, "fetchCredentials" + path, body, **more)
    nothing, here = "0" * 32, "@mef.example.org/24"
    for number, path in enumerate(("", "/x", f"/{nothing}", f"/{nothing}/24", f"/{nothing[1:]}{here}", f"/{nothing}0{here}", f"/{nothing}{here}",
                 f"/{nothing}{here}/24", f"/{nothing}@/24", f"/{nothing}@mef.example.com/24", f"/{nothing}@mef.example.org", f"/@{here}",
                 f"/{'g' * 32}{here}", f"/{w.key}/24", f"/{w.key}{here}", f"/{w.own}{here}", "/" + "/".join("@" * 20), f"/{here}{here}")):
        yield from both(w, f"fetch: of {path[:12]} ({number})", 4004, ask(path))
    for usage in ("0", "2", "20", "26", "024", "24x", "-24", "24;", "9" * 40):
        yield from both(w, f"fetch: for usage {usage[:9]!r}", 4000, ask(f"/{w.own}@mef.example.org/{usage}"))
    for method, name, body in (("PUT", "update", b"{}"), ("DELETE", "delete", b""), ("POST", "notification", b"{}")):
        yield from both(w, f"fetch: by {name}", 4005, ask(f"/{w.own}{here}", method, body))
    for q in QUERIES:
        yield from both(w, f"fetch: with {q}", 4000, ask(f"/{w.own}{here}", query=(q,)))
    for name in MALFORMED:
        yield from both(w, f"fetch: update with JSON, {name}", 4000, ask(f"/{w.own}{here}", "PUT", JSON_FORMS[name]))

    def raw(path, fr):
        return coap(GET, "fetchCredentials" + path, [(FR, fr), (RQI, b"1"), (RVI, b"3")])
    yield Row("fetch in another's name", "coap:other", raw(f"/{w.own}{here}", w.origin), "4.03 4106")
    yield Row("fetch by a gateway", "coap:gw", raw(f"/{w.own}{here}", f"gateway:{w.gateway}".encode()), "4.04 4004")
    for usage in ("24 ", ""):  # neither can be said in HTTP
        yield Row(f"fetch for usage {usage!r}", "coap:ae", raw(f"/{w.own}@mef.example.org/{usage}", w.origin), "4.00 4000")


def parameters(w):
    """From, Request Identifier, Release Version, Resource Type, Result Content."""
    def ask(*options, code=GET, path="mef", body=b""):
        return coap(code, path, options, body)
    fr, rqi, rvi = (FR, w.origin), (RQI, b"1"), (RVI, b"3")
    yield Row("From is missing", "coap:ae", ask(rqi, rvi), "4.00 4000")
    yield Row("From is empty", "coap:ae", ask((FR, b""), rqi, rvi), "4.00 4000")
    yield Row("From is another AE", "coap:other", ask(fr, rqi, rvi), "4.03 4106")
    yield Row("From is the MEF itself", "coap:ae", ask((FR, b"mef.example.org"), rqi, rvi), "4.03 4106")
    yield Row("From is no UTF-8", "coap:ae", ask((FR, b"C\xff"), rqi, rvi), "4.00 4000")
    yield Row("From has a NUL", "coap:ae", ask((FR, w.origin + b"\0"), rqi, rvi), "4.00 4000")
    yield Row("From of another case", "coap:ae", ask((FR, w.origin.upper()), rqi, rvi), "4.03 4106")
    yield Row("RQI is missing", "coap:ae", ask(fr, rvi), "4.00 4000")
    yield Row("RQI is empty", "coap:ae", ask(fr, (RQI, b""), rvi), "4.00 4000")
    for text in (b"0", b"6", b"9", b"3a", b"\xff"):
        yield Row(f"RVI {text!r}", "coap:ae", ask(fr, rqi, (RVI, text)),
                  "4.00 4000" if text == b"\xff" else "5.01 4001")
    for name in (w.origin, w.origin[:-1], w.origin.upper(), b"node:2", f"gateway:{w.gateway}".encode()):
        yield Row(f"a node in the name of {name[-12:]!r}, which is not on it", "coap:node", ask((FR, name), rqi, rvi), "4.03 4106")
    yield Row("a node in its own name", "coap:node", ask((FR, b"node:1"), rqi, rvi, path="mef/" + w.key), "4.03 4103")
    yield Row("a node for an AE that is no target", "coap:node", ask((FR, w.other_origin), rqi, rvi, path="mef/" + w.key), "4.03 4103")
    yield Row("a node registers itself", "coap:node", ask((FR, b"node:1"), rqi, rvi, (TY, uint(CLIENT_REG)), code=POST,
                                                          body=b'{"sec:mecr":{}}'), "4.03 4103")
    yield Row("a gateway's credential finds nothing", "coap:gw",
              ask((FR, f"gateway:{w.gateway}".encode()), rqi, rvi, path="mef/" + w.key),
              "4.03 4103")
    yield Row("a gateway registers", "coap:gw", ask((FR, f"gateway:{w.gateway}".encode()), rqi, rvi,
            (TY, uint(CLIENT_REG)), code=POST,
                                                     body=b'{"sec:mecr":{}}'), "4.03 4103")


def base(w):
    """What is asked of the MEFBase, or of nothing below it."""
    body = json.dumps({"sec:mecr": {"et": FAR, "adfq": w.admin}}).encode()
    asked = {}
    for ty, rsc in ((0, 4108), (1, 4108), (2, 4108), (3, 4108), (4, 4108), (9, 4108), (14, 4108), (16, 4108), (23, 4108),
                    (BASE, 4005), (CLIENT_CMD, 4108), (60005, 4108), (60006, 5001), (65535, 5001)):
        asked[f"create of type {ty}"] = rsc, create(body, ty)
    asked |= {
        "create without a type, which is a notification": (4005, create(body, None)),
        "create without content": (4000, Primitive("POST", ty=CLIENT_REG)),
        "update": (4005, update("mef", body)), "update of its own": (4005, update("mef", {"sec:MEFB": {"lbl": ["x"]}})),
        "update with nothing": (4005, update("mef", {})), "update without content": (4000, Primitive("PUT")),
        "delete": (4005, Primitive("DELETE")), "delete with content": (4000, Primitive("DELETE", body=b"{}")),
        "create below nothing": (4004, create(body, path="mef/nothing")),
        "retrieve of nothing": (4004, Primitive("GET", "mef/" + "0" * 32)),
        "update of nothing": (4004, update("mef/nothing", body)), "delete of nothing": (4004, Primitive("DELETE", "mef/nothing")),
        "retrieve of an id too long": (4004, Primitive("GET", "mef/" + "a" * 200)),
        "retrieve of an id too deep": (4004, Primitive("GET", f"mef/{w.own}/{w.own}")),
        "discovery by 40 labels": (4000, Primitive("GET", query=("fu=1", *["lbl=a"] * 40)))}
    for q in QUERIES:
        asked[f"query {q}"] = 4000, Primitive("GET", query=(q,))
    for q in ("fu=2", "fu=", "lim=0", "lim=-1", "lim=x", "lim=99999999999999999999x", "lbl=", "cra=20200101T000000", "ty=23", "rcn=3"):
        asked[f"discovery with {q}"] = 4000, Primitive("GET", query=(q,) if q[:2] == "fu" else ("fu=1", q))
    for name, (rsc, primitive) in asked.items():
        yield from both(w, "MEFBase: " + name, rsc, primitive)


JSON_FORMS = {
    "empty object": b"{}", "null": b"null", "true": b"true", "number": b"1", "text": b'"sec:mecr"', "array": b"[]",
    "blank": b" \n\t",
    "half a brace": b"{", "two values": b'{"sec:mecr":{}}{}', "trailing comma": b'{"sec:mecr":{},}',
    "trailing text": b'{"sec:mecr":{}}x',
    "trailing NUL": b'{"sec:mecr":{}}\0', "a comment": b'/**/{"sec:mecr":{}}', "single quotes": b"{'sec:mecr':{}}",
    "no quotes": b"{sec:mecr:{}}",
    "colon missing": b'{"sec:mecr"{}}', "comma missing": b'{"sec:mecr":{"et":"x" "adfq":"y"}}',
    "text cut off": b'{"sec:mecr":{"et":"2',
    "escape cut off": b'{"sec:mecr":{"et":"\\', "unknown escape": b'{"sec:mecr":{"et":"\\x41"}}',
    "short \\u": b'{"sec:mecr":{"et":"\\u12"}}',
    "lone high surrogate": b'{"sec:mecr":{"et":"\\ud800"}}', "lone low surrogate": b'{"sec:mecr":{"et":"\\udc00"}}',
    "escaped NUL": b'{"sec:mecr":{"et":"2099\\u0000"}}', "escaped NUL in a name": b'{"sec:mecr\\u0000":{}}',
    "NUL in a text": b'{"sec:mecr":{"et":"2\0"}}',
    "NUL before": b'\0{"sec:mecr":{}}', "newline in a text": b'{"sec:mecr":{"et":"2\n"}}',
    "invalid UTF-8": b'{"sec:mecr":{"et":"\xff"}}',
    "overlong UTF-8": b'{"sec:mecr":{"et":"\xc0\xaf"}}', "surrogate in UTF-8": b'{"sec:mecr":{"et":"\xed\xa0\x80"}}',
    "UTF-8 above U+10FFFF": b'{"sec:mecr":{"et":"\xf4\x90\x80\x80"}}', "UTF-16": '{"sec:mecr":{}}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"sec:mecr":{}}',
    "root twice": b'{"sec:mecr":{},"sec:mecr":{}}',
    "member twice": b'{"sec:mecr":{"et":"20991231T235959","et":"20991231T235959","adfq":"x"}}',
    "member twice, once escaped": b'{"sec:mecr":{"et":"20991231T235959","\\u0065t":"20991231T235959","adfq":"x"}}',
    "NaN": b'{"sec:mecr":{"et":NaN}}', "Infinity": b'{"sec:mecr":{"et":Infinity}}',
    "hexadecimal": b'{"sec:mecr":{"et":0x10}}',
    "leading zero": b'{"sec:mecr":{"et":01}}', "leading plus": b'{"sec:mecr":{"et":+1}}',
    "bare point": b'{"sec:mecr":{"et":1.}}',
    "a number of 1000 digits": b'{"sec:mecr":{"et":' + b"9" * 1000 + b"}}",
    "an exponent of 9 digits": b'{"sec:mecr":{"et":1e999999999}}',
    "arrays 600 deep": b"[" * 600 + b"]" * 600, "objects 150 deep": b'{"a":' * 150 + b"1" + b"}" * 150,
    "open arrays": b"[" * 1000,
    "an array of 400 nulls": b"[" + b"null," * 199 + b"null]",
}


# What no resource's content can be, whatever its attributes are.
MALFORMED = [name for name in JSON_FORMS if name not in ("empty object", "array", "an array of 400 nulls")]


def forms(w):
    for name, body in JSON_FORMS.items():
        yield from both(w, f"mecr: JSON, {name}", 4000, create(body))
    yield from both(w, "mecr: CBOR without a root", 4000, create(b"\xa0", form=CBOR))
    yield from both(w, "mecr: XML, not spoken", 4015, create(b"<a/>", form=41))
    yield from both(w, "mecr: an unknown format", 4015, create(b"{}", form=64999))


def registrations(w):
    good = {"et": FAR, "adfq": w.admin}
    wrong = {"no et": {"adfq": w.admin}, "no adfq": {"et": FAR}, "et null": {**good, "et": None},
             "et number": {**good, "et": 2099},
             "et past": {**good, "et": PAST}, "et of month 13": {**good, "et": "20991331T235959"},
             "et of 30 February": {**good, "et": "20990230T000000"},
             "et of hour 24": {**good, "et": "20991231T240000"}, "et with Z": {**good, "et": FAR + "Z"},
             "et in RFC 3339": {**good, "et": "2099-12-31T23:59:59Z"},
             "et cut off": {**good, "et": FAR[:-1]}, "et with a bad fraction": {**good, "et": FAR + ",x"},
             "et with 7 digits of fraction": {**good, "et": FAR + ",1234567"},
             "et before": {**good, "et": " " + FAR}, "et object": {**good, "et": {}}, "lbl text": {**good, "lbl": "a"},
             "lbl of numbers": {**good, "lbl": [1]},
             "lbl with an empty one": {**good, "lbl": [""]}, "lbl nested": {**good, "lbl": [["a"]]},
             "lbl of 1000": {**good, "lbl": ["a"] * 100},
             "lbl with a control character": {**good, "lbl": ["a\x01"]},
             "lbl of 5000 letters": {**good, "lbl": ["a" * 900]},
             "adfq number": {**good, "adfq": 1}, "adfq empty": {**good, "adfq": ""},
             "ty given": {**good, "ty": CLIENT_REG}, "ri given": {**good, "ri": "x"},
             "rn given": {**good, "rn": "x"}, "pi given": {**good, "pi": "mef"}, "ct given": {**good, "ct": FAR},
             "lt given": {**good, "lt": FAR},
             "srci given": {**good, "srci": "x"}, "unknown attribute": {**good, "zap": 1},
             "attribute of another type": {**good, "suid": 24},
             "attribute in other case": {**good, "ET": FAR}, "long name": {**good, "expirationTime": FAR}}
    for name, body in wrong.items():
        yield from both(w, f"mecr: {name}", 4000, create({"sec:mecr": body}))
    for name, body in {"wrong root": {"sec:skr": good}, "m2m root": {"m2m:mecr": good}, "no prefix": {"mecr": good},
                       "two roots": {"sec:mecr": good, "x": 1},
                       "no root": good, "root in other case": {"SEC:MECR": good},
                       "root is an array": {"sec:mecr": [good]}, "root is null": {"sec:mecr": None}}.items():
        yield from both(w, f"mecr: {name}", 4000, create(body))
    path = "mef/" + w.registration
    for name, change in {"nothing": {}, "adfq": {"adfq": w.admin}, "ri": {"ri": "x"}, "srci": {"srci": "x"}, "et null": {"et": None},
                         "et past": {"et": PAST}, "lbl text": {"lbl": "x"}, "unknown attribute": {"zap": 1}}.items():
        yield from both(w, f"mecr: update, {name}", 4000, update(path, {"sec:mecr": change}))
    yield from both(w, "mecr: update, wrong root", 4000, update(path, {"sec:skr": {"et": FAR}}))
    yield from both(w, "mecr: update without content", 4000, Primitive("PUT", path))
    yield from both(w, "mecr: delete with content", 4000, Primitive("DELETE", path, b"{}"))
    yield from both(w, "mecr: retrieve with a query", 4000, Primitive("GET", path, query=("zz=1",)))
    yield from both(w, "mecr: create below it", 4108, create({"sec:mecr": good}, path=path))
    yield from both(w, "mecr: command below it", 4005, create({"sec:mecc": {}}, CLIENT_CMD, path))
    yield from both(w, "mecr: another stakeholder", 4103, create({"sec:mecr": {**good, "adfq": "evil.example.com"}}))
    yield from both(w, "mecr: second registration", 4117, create({"sec:mecr": good}))
    yield from both(w, "mecr: retrieve of another's", 4103, Primitive("GET", path), "other")
    yield from both(w, "mecr: update of another's", 4103, update(path, {"sec:mecr": {"lbl": ["x"]}}), "other")
    yield from both(w, "mecr: delete of another's", 4103, Primitive("DELETE", path), "other")


def keys(w):
    good = {"et": FAR, "adfq": w.admin, "suid": 24, "tgis": ["//example.org/in-cse/Cother"], "kv": KEY}
    wrong = {"no et": {"et": ...}, "no suid": {"suid": ...}, "no tgis": {"tgis": ...}, "no adfq": {"adfq": ...},
             "suid 20": {"suid": 20}, "suid 26": {"suid": 26},
             "suid -1": {"suid": -1}, "suid 24.5": {"suid": 24.5}, "suid text": {"suid": "24"},
             "suid 1e300": {"suid": 1e300}, "suid true": {"suid": True},
             "tgis empty": {"tgis": []}, "tgis text": {"tgis": "C1"}, "tgis of numbers": {"tgis": [1]},
             "tgis of no ids": {"tgis": ["not an id"]},
             "tgis with an FQDN": {"tgis": ["maf.example.org"]}, "tgis of 600": {"tgis": ["C1"] * 180},
             "suid 22 with two targets": {"suid": 22, "tgis": ["C1", "C2"]},
             "suid 21 with an AE": {"suid": 21, "tgis": ["C1"]}, "kv empty": {"kv": ""}, "kv number": {"kv": 1},
             "kv null": {"kv": None}, "kv of 15 bytes": {"kv": "AAAAAAAAAAAAAAAAAAAA"},
             "kv of 65 bytes": {"kv": "A" * 86 + "A="}, "kv without padding": {"kv": KEY.rstrip("=")},
             "kv with a blank": {"kv": KEY[:4] + " " + KEY[5:]},
             "kv in base64url": {"kv": "__8" + KEY[3:]}, "kv with bits behind": {"kv": KEY[:-3] + "x=="},
             "kv with padding inside": {"kv": "AA==" + KEY}, "aski given": {"aski": "x"},
             "et past": {"et": PAST}, "unknown attribute": {"zap": 1}}
    for name, change in wrong.items():
        body = {k: v for k, v in {**good, **change}.items() if v is not ...}
        yield from both(w, f"skr: {name}", 4000, create({"sec:skr": body}, KEY_REG))
    own, published = "mef/" + w.own, "mef/" + w.key
    for name, change in {"nothing": {}, "adfq": {"adfq": w.admin}, "suid": {"suid": 24}, "kv": {"kv": KEY},
                         "ri": {"ri": "x"}, "et null": {"et": None},
                         "et past": {"et": PAST}, "tgis null": {"tgis": None}, "tgis empty": {"tgis": []},
                         "unknown attribute": {"zap": 1}}.items():
        yield from both(w, f"skr: update, {name}", 4000, update(own, {"sec:skr": change}))
    yield from both(w, "skr: update, wrong root", 4000, update(own, {"sec:mecr": {"et": FAR}}))
    yield from both(w, "skr: update without content", 4000, Primitive("PUT", own))
    yield from both(w, "skr: delete with content", 4000, Primitive("DELETE", own, b"{}"))
    yield from both(w, "skr: create below it", 4108, create({"sec:skr": good}, KEY_REG, own))
    yield from both(w, "skr: wrong root", 4000, create({"sec:mecr": good}, KEY_REG))
    yield from both(w, "skr: not registered", 4103, create({"sec:skr": good}, KEY_REG), "other")
    for whose, path, who in (("another's", own, "other"), ("one the MEF published", published, "ae")):
        yield from both(w, f"skr: update of {whose}", 4103, update(path, {"sec:skr": {"et": FAR}}), who)
        yield from both(w, f"skr: delete of {whose}", 4103, Primitive("DELETE", path), who)
    yield from both(w, "skr: retrieve by who is no target", 4103, Primitive("GET", published), "other")


def commands(w):
    """What is no report on a command; one on another command is none, too, and answered with the current one."""
    path, good = f"mef/{w.registration}/cmd", {"cmi": "1", "cmst": 20}
    wrong = {"nothing": {}, "no cmi": {"cmst": 20}, "no cmst": {"cmi": "1"}, "cmi number": {**good, "cmi": 1},
             "cmi null": {**good, "cmi": None}, "cmi empty": {**good, "cmi": ""}, "cmi array": {**good, "cmi": ["1"]},
             "cmi of 300 letters": {**good, "cmi": "1" * 300}, "cmi with a control character": {**good, "cmi": "1\n"},
             "cmst text": {**good, "cmst": "20"}, "cmst null": {**good, "cmst": None}, "cmst true": {**good, "cmst": True},
             "cmst array": {**good, "cmst": [20]}, "cmst 20.5": {**good, "cmst": 20.5}, "cmst 1e300": {**good, "cmst": 1e300},
             "cmds given": {**good, "cmds": {"cmdClassID": 0}}, "cmds null": {**good, "cmds": None},
             "ty given": {**good, "ty": CLIENT_CMD}, "ri given": {**good, "ri": "x"}, "rn given": {**good, "rn": "cmd"},
             "pi given": {**good, "pi": w.registration}, "et given": {**good, "et": FAR}, "lbl given": {**good, "lbl": ["x"]},
             "unknown attribute": {**good, "zap": 1}, "attribute in other case": {**good, "CMST": 20},
             "long name": {"cmdID": "1", "cmdStatus": 20}}
    wrong |= {f"cmst {n}": {**good, "cmst": n} for n in (-1, 0, 1, 9, 10, 11, 12, 19, 21, 39, 43, 44, 99, 100, 201, 300, 306, 999, 1000)}
    for name, body in wrong.items():
        yield from both(w, f"mecc: {name}", 4000, update(path, {"sec:mecc": body}))
    for name, body in {"wrong root": {"sec:mecr": good}, "no prefix": {"mecc": good}, "two roots": {"sec:mecc": good, "x": 1},
                       "no root": good, "root is an array": {"sec:mecc": [good]}, "root is null": {"sec:mecc": None}}.items():
        yield from both(w, f"mecc: {name}", 4000, update(path, body))
    yield from both(w, "mecc: update without content", 4000, Primitive("PUT", path))
    yield from both(w, "mecc: retrieve with a query", 4000, Primitive("GET", path, query=("zz=1",)))
    yield from both(w, "mecc: create below it", 4108, create({"sec:mecc": good}, CLIENT_CMD, path))
    yield from both(w, "mecc: create at the base", 4108, create({"sec:mecc": good}, CLIENT_CMD))
    yield from both(w, "mecc: delete", 4005, Primitive("DELETE", path))
    for cmi in ("0", "2", "01", " 1", "1x", "x", "99999999999999999999"):
        yield from both(w, f"mecc: of another id {cmi}", 2004, update(path, {"sec:mecc": {"cmi": cmi, "cmst": 20}}))
    for name, primitive in {"retrieve": Primitive("GET", path), "update": update(path, {"sec:mecc": good}),
                            "delete": Primitive("DELETE", path)}.items():
        yield from both(w, f"mecc: {name} of another's", 4103, primitive, "other")
    for nothing in (f"mef/{w.registration}/cm", f"mef/{w.registration}/cmd/x", f"mef/{w.registration}/x/cmd",
                    f"mef/{w.registration}/CMD", f"mef/{w.registration}cmd", f"mef/{w.own}/cmd", f"mef/{'0' * 32}/cmd", "mef/cmd"):
        yield from both(w, f"mecc: not at {nothing}", 4004, Primitive("GET", nothing))


def configurations(w):
    """A client's configuration is the operator's to make: the client reads it, and nothing else."""
    cfg, good = f"mef/{w.registration}/cfg", {"sec:mecf": {"ccfg": {"fqdn": "mef.example.org", "adminFQDN": w.admin}}}
    for name, body in {"its own": good, "nothing": {"sec:mecf": {}}, "no root": {}, "wrong root": {"sec:mecr": {}}, "no prefix": {"mecf": {}},
                       "a root that is an array": {"sec:mecf": []}, "null": {"sec:mecf": {"ccfg": None}}, "et": {"sec:mecf": {"et": FAR}}}.items():
        yield from both(w, f"mecf: update with {name}", 4005, update(cfg, body))
    for name in MALFORMED:
        yield from both(w, f"mecf: update with JSON, {name}", 4000, update(cfg, JSON_FORMS[name]))
    for q in QUERIES:
        yield from both(w, f"mecf: retrieve with {q}", 4000, Primitive("GET", cfg, query=(q,)))
    yield from both(w, "mecf: update without content", 4000, Primitive("PUT", cfg))
    yield from both(w, "mecf: delete", 4005, Primitive("DELETE", cfg))
    yield from both(w, "mecf: delete with content", 4000, Primitive("DELETE", cfg, b"{}"))
    yield from both(w, "mecf: create", 4005, create(good, 60005, cfg[:-4]))
    yield from both(w, "mecf: create at the base", 4108, create(good, 60005))
    yield from both(w, "mecf: create below it", 4108, create(good, 60005, cfg))
    yield from both(w, "mecf: retrieve of none", 4004, Primitive("GET", f"mef/{w.bare}/cfg"), "bare")
    for name, primitive in {"retrieve": Primitive("GET", cfg), "update": update(cfg, good), "delete": Primitive("DELETE", cfg)}.items():
        yield from both(w, f"mecf: {name} of another's", 4103, primitive, "other")
    for nothing in (f"mef/{w.registration}/cf", f"mef/{w.registration}/cfg/x", f"mef/{w.registration}/CFG", f"mef/{w.registration}cfg",
                    f"mef/{w.own}/cfg", f"mef/{'0' * 32}/cfg", "mef/cfg"):
        yield from both(w, f"mecf: not at {nothing}", 4004, Primitive("GET", nothing))


def rows(w):
    for table in (parameters, fetches, base, forms, registrations, commands, configurations, keys):
        yield from table(w)
