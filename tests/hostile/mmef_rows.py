"""Mmef primitives: TS-0004 7.2.1, 7.3; TS-0008 6.2; attribute tables of docs/mmef-example.md."""
import json

from coap_rows import BASE, CLIENT_CMD, CLIENT_REG, FAR, KEY_REG, PAST
from coapclient import CBOR, CONTENT_FORMAT, DELETE, FR, GET, JSON, POST, PUT, RQI, RVI, TY, URI_QUERY, uint
from engine import Row, coap

KEY = "AAECAwQFBgcICQoLDA0ODw=="


def create(w, body, ty=CLIENT_REG, form=JSON, path="mef"):
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return coap(POST, path, [*w.primitive, (TY, uint(ty)), (CONTENT_FORMAT, uint(form))], payload)


def fetches(w):
    """/fetchCredentials/<KeID>/<security usage> (TS-0003 8.3.2.1)."""
    def ask(path, code=GET, *options, body=b"", fr=w.origin):
        return coap(code, "fetchCredentials" + path, [(FR, fr), (RQI, b"1"), (RVI, b"3"), *options], body)
    nothing, here = "0" * 32, "@mef.example.org/24"
    for number, path in enumerate(("", "/x", f"/{nothing}", f"/{nothing}/24", f"/{nothing[1:]}{here}", f"/{nothing}0{here}", f"/{nothing}{here}",
                 f"/{nothing}{here}/24", f"/{nothing}@/24", f"/{nothing}@mef.example.com/24", f"/{nothing}@mef.example.org", f"/@{here}",
                 f"/{'g' * 32}{here}", f"/{w.key}/24", f"/{w.key}{here}", f"/{w.own}{here}", "/" + "/".join("@" * 20), f"/{here}{here}")):
        yield Row(f"fetch of {path[:12]} ({number})", "coap:ae", ask(path), "4.04 4004")
    for usage in ("", "0", "2", "20", "26", "024", "24x", "-24", "24 ", "9" * 40):
        yield Row(f"fetch for usage {usage[:9]!r}", "coap:ae", ask(f"/{w.own}@mef.example.org/{usage}"), "4.00 4000")
    for code, name in ((PUT, "update"), (DELETE, "delete"), (POST, "notification")):
        yield Row(f"fetch by {name}", "coap:ae", ask(f"/{w.own}{here}", code, body=b"" if code == DELETE else b"{}"), "4.05 4005")
    yield Row("fetch with a parameter", "coap:ae", ask(f"/{w.own}{here}", GET, (URI_QUERY, b"rcn=1")), "4.00 4000")
    yield Row("fetch in another's name", "coap:other", ask(f"/{w.own}{here}"), "4.03 4106")
    yield Row("fetch by a gateway", "coap:gw", ask(f"/{w.own}{here}", fr=f"gateway:{w.gateway}".encode()), "4.04 4004")


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
    body = json.dumps({"sec:mecr": {"et": FAR, "adfq": w.admin}}).encode()
    for ty, expect in ((0, "4.03 4108"), (2, "4.03 4108"), (3, "4.03 4108"), (BASE, "4.05 4005"),
                       (CLIENT_CMD, "5.01 5001"),
                       (60005, "5.01 5001"), (65535, "5.01 5001")):
        yield Row(f"create of type {ty}", "coap:ae", create(w, body, ty), expect)
    yield Row("create without a type is a notification", "coap:ae", ask(fr, rqi, rvi, code=POST, body=body),
              "4.05 4005")
    yield Row("create without content", "coap:ae", ask(fr, rqi, rvi, (TY, uint(CLIENT_REG)), code=POST), "4.00 4000")
    yield Row("create below a key", "coap:ae", create(w, body, path="mef/" + w.own), "4.03 4108")
    yield Row("create below nothing", "coap:ae", create(w, body, path="mef/nothing"), "4.04 4004")
    yield Row("second registration", "coap:ae", create(w, body), "4.03 4117")
    yield Row("update of the base", "coap:ae", ask(fr, rqi, code=PUT, body=body), "4.05 4005")
    yield Row("delete of the base", "coap:ae", ask(fr, rqi, code=DELETE), "4.05 4005")
    yield Row("delete with content", "coap:ae", ask(fr, rqi, code=DELETE, path="mef/" + w.own, body=b"{}"), "4.00 4000")
    yield Row("delete of nothing", "coap:ae", ask(fr, rqi, code=DELETE, path="mef/nothing"), "4.04 4004")
    yield Row("delete of another's key", "coap:other", ask((FR, w.other_origin), rqi, code=DELETE,
            path="mef/" + w.own), "4.03 4103")
    yield Row("update of another's key", "coap:other", coap(PUT, "mef/" + w.own, [(FR, w.other_origin), rqi],
            b'{"sec:skr":{"et":"20900101T000000"}}'),
              "4.03 4103")
    yield Row("update without content", "coap:ae", ask(fr, rqi, code=PUT, path="mef/" + w.own), "4.00 4000")
    yield Row("retrieve of nothing", "coap:ae", ask(fr, rqi, path="mef/" + "0" * 32), "4.04 4004")
    yield Row("retrieve of an id too long", "coap:ae", ask(fr, rqi, path="mef/" + "a" * 200), "4.04 4004")
    yield Row("retrieve of a key that is not for this AE", "coap:other",
              ask((FR, w.other_origin), rqi, path="mef/" + w.key), "4.03 4103")
    yield Row("retrieve of another's registration", "coap:other",
              ask((FR, w.other_origin), rqi, path="mef/" + w.registration), "4.03 4103")
    for q in (b"rcn=0", b"rcn=2", b"rcn=9", b"rcn=", b"rcn", b"rcn=1x", b"atrl=et", b"=1", b"zz=1"):
        yield Row(f"query {q.decode()}", "coap:ae", ask(fr, rqi, (URI_QUERY, q)), "4.00 4000")
    for q in (b"fu=2", b"fu=", b"lim=0", b"lim=-1", b"lim=x", b"lim=99999999999999999999x", b"lbl=",
              b"cra=20200101T000000", b"ty=23", b"rcn=3"):
        yield Row(f"discovery with {q.decode()}", "coap:ae", ask(fr, rqi,
                *([] if q[:2] == b"fu" else [(URI_QUERY, b"fu=1")]), (URI_QUERY, q)),
                  "4.00 4000")
    yield Row("discovery by 40 labels", "coap:ae", ask(fr, rqi, (URI_QUERY, b"fu=1"), *[(URI_QUERY, b"lbl=a")] * 40),
              "4.00 4000")


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


def forms(w):
    for name, body in JSON_FORMS.items():
        yield Row(f"JSON: {name}", "coap:ae", create(w, body), "4.00 4000")
    yield Row("CBOR content without a root", "coap:ae", create(w, b"\xa0", form=CBOR), "4.00 4000")
    yield Row("XML content, not spoken", "coap:ae", create(w, b"<a/>", form=41), "4.15 4015")
    yield Row("content of an unknown format", "coap:ae", create(w, b"{}", form=64999), "4.15 4015")


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
        yield Row(f"mecr: {name}", "coap:ae", create(w, {"sec:mecr": body}), "4.00 4000")
    yield Row("mecr: another stakeholder", "coap:ae", create(w, {"sec:mecr": {**good, "adfq": "evil.example.com"}}),
              "4.03 4103")
    for name, body in {"wrong root": {"sec:skr": good}, "m2m root": {"m2m:mecr": good}, "no prefix": {"mecr": good},
                       "two roots": {"sec:mecr": good, "x": 1},
                       "no root": good, "root in other case": {"SEC:MECR": good},
                       "root is an array": {"sec:mecr": [good]}, "root is null": {"sec:mecr": None}}.items():
        yield Row(f"mecr: {name}", "coap:ae", create(w, body), "4.00 4000")


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
        yield Row(f"skr: {name}", "coap:ae", create(w, {"sec:skr": body}, KEY_REG), "4.00 4000")
    yield Row("skr: not registered", "coap:other", coap(POST, "mef",
            [(FR, w.other_origin), (RQI, b"1"), (TY, uint(KEY_REG))],
                                                         json.dumps({"sec:skr": good}).encode()), "4.03 4103")
    for name, change in {"nothing": {}, "adfq": {"adfq": w.admin}, "suid": {"suid": 24}, "kv": {"kv": KEY},
                         "ri": {"ri": "x"}, "et null": {"et": None},
                         "et past": {"et": PAST}, "tgis null": {"tgis": None}, "tgis empty": {"tgis": []},
                         "unknown attribute": {"zap": 1}}.items():
        yield Row(f"update of skr: {name}", "coap:ae", coap(PUT, "mef/" + w.own, w.primitive,
                json.dumps({"sec:skr": change}).encode()), "4.00 4000")
    yield Row("update of skr: wrong root", "coap:ae", coap(PUT, "mef/" + w.own, w.primitive,
            b'{"sec:mecr":{"et":"20900101T000000"}}'), "4.00 4000")
    yield Row("update of a key the MEF published", "coap:ae",
              coap(PUT, "mef/" + w.key, w.primitive, b'{"sec:skr":{"et":"20900101T000000"}}'), "4.03 4103")
    yield Row("delete of a key the MEF published", "coap:ae", coap(DELETE, "mef/" + w.key, w.primitive), "4.03 4103")


def rows(w):
    for table in (parameters, fetches, forms, registrations, keys):
        yield from table(w)
