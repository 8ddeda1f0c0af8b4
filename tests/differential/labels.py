"""Labels drawn at random: what was printed must come out of `mefctl zigbee label`, whatever a scanner or a typist made of it;
zigbee-herdsman and the four shapes that ZHA takes must not read another code from the same text."""
import json
import re
import subprocess
import urllib.parse
from pathlib import Path

import reference

HERE = Path(__file__).resolve().parent
HEX = "0123456789ABCDEF"
EUI, CODE = "([0-9A-Fa-f]{16})", "([0-9A-Fa-f]{36})"
ZHA = [f"^{EUI}\\|{CODE}$", f"^Z:{EUI}\\$I:{CODE}$", f"\\$A:{EUI}\\$I:{CODE}$", f"^RB01SG[0-9A-Fa-f]{{34}}{EUI}DLK{CODE}$"]


def digits(rng, n):
    return "".join(rng.choice(HEX) for _ in range(n))


def word(rng, alphabet="GHKLMNPQRTUVWXY0123456789"):  # holds no two hex letters that could look like a code
    return "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 12)))


def groups(rng, device):
    """Other groups and fields around the device's own, in any order."""
    others = ["$".join(f"{rng.choice('BDFMPS')}:{word(rng)}" for _ in range(rng.randrange(1, 4))) for _ in range(rng.randrange(4))]
    others.insert(rng.randrange(len(others) + 1), device)
    return "%".join(others)


def dollars(rng, eui, code):
    fields = [f"Z:{eui}", f"I:{code}"] + [f"{rng.choice('DFMPS')}:{word(rng)}" for _ in range(rng.randrange(3))]
    rng.shuffle(fields)
    return groups(rng, "$".join(fields))


def hue(rng, eui, code):
    rest = [f"M:{eui}", f"D:{word(rng)}", f"A:{word(rng)}"]
    rng.shuffle(rest)
    return f"HUE:Z:{code} " + " ".join(rest)


FORMS = {
    "plain": lambda rng, eui, code: f"Z:{eui}$I:{code}",
    "groups": dollars,
    "aqara": lambda rng, eui, code: f"G$M:{word(rng)}$S:{word(rng)}$D:{digits(rng, 16)}%Z$A:{eui}$I:{code}",
    "namron": lambda rng, eui, code: f"Z$A:{eui}$I:{code}",
    "pipe": lambda rng, eui, code: f"{eui}|{code}",
    "enclosed": lambda rng, eui, code: f"|{eui}|{code}|",
    "hue": hue,
    "bosch": lambda rng, eui, code: f"RB01SG{digits(rng, 34)}{eui}DLK{code}",
}


def split(rng, text):
    """Groups of digits, as they are printed or typed."""
    size, joint = rng.choice((2, 4, 6)), rng.choice((" ", "-", "\u2013", "\u00a0"))
    return joint.join(text[i:i + size] for i in range(0, len(text), size))


def in_url(rng, text):
    text = rng.choice((urllib.parse.quote, urllib.parse.quote_plus))(text, safe="")
    return rng.choice((text, f"https://example.org/join?qr={text}&v=1"))


def wrapped(rng, text):
    """What scanners and people put around a label."""
    wraps = (lambda t: t.lower(), lambda t: t + "\r\n", lambda t: f"  {t}\t", lambda t: f'Label "{t}" scanned',
             lambda t: f"Ger\u00e4t: {t}\n")
    for wrap in rng.sample(wraps, rng.randrange(3)):
        text = wrap(text)
    return in_url(rng, text) if rng.random() < 0.3 else text


def draw(rng):
    """(form, text, the answer)"""
    form = rng.choice(list(FORMS))
    eui, code = digits(rng, 16), reference.install_code(rng).hex().upper()
    answer = {"eui64_text": eui.lower(), "install_code": code.lower()}
    if form == "bosch" and rng.random() < 0.5:
        code = digits(rng, 32)
        answer = {"eui64_text": eui.lower(), "link_key": code.lower()}
    elif form == "bosch":
        while len(code) != 36:
            code = reference.install_code(rng).hex().upper()
        answer["install_code"] = code.lower()
    if rng.random() < 0.3 and form != "bosch":
        code = split(rng, code)
    return form, FORMS[form](rng, eui, code), answer


def spoilt(rng, text):
    """A character changed, left out, put in or swapped with its neighbour."""
    i = rng.randrange(len(text) - 1)
    return rng.choice((text[:i] + rng.choice(HEX + "GOIZ$%|: -") + text[i + 1:], text[:i] + text[i + 1:],
                       text[:i] + rng.choice(HEX + "$%| ") + text[i:], text[:i] + text[i + 1] + text[i] + text[i + 2:]))


def by_zha(text):
    for shape in ZHA:
        found = re.search(shape, text)
        if found:
            return {"eui64_text": found[1].lower(), "install_code": found[2].lower()}
    return {}


def by_herdsman(npm, texts):
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
    run = subprocess.run(["node", HERE / "herdsman.js", npm], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def agree(count, name, text, ours, theirs, whole):
    """Another reads a code with a right CRC: we read the same. What is spoilt we may refuse."""
    if "install_code" not in theirs or not re.fullmatch("[0-9a-f]{16}", theirs["eui64_text"]):
        return
    if not re.fullmatch("[0-9a-f]+", theirs["install_code"]):  # of 91 and 95 characters it takes any
        return
    if reference.crc_fits(theirs["install_code"]) and (whole or "error" not in ours):
        count.check(name, {k: ours.get(k) for k in ("eui64_text", "install_code")},
                    {k: theirs[k] for k in ("eui64_text", "install_code")}, text)


def run(count, mefctl, npm, rng, cases):
    drawn = [draw(rng) for _ in range(cases)]
    texts = [wrapped(rng, text) for _, text, _ in drawn]
    for (form, _, answer), text, got in zip(drawn, texts, mefctl([{"text": t} for t in texts])):
        count.check("label " + form, got, answer, text)
    bare = [text for _, text, _ in drawn]
    taken = 0
    for texts, whole in ((bare, True), ([spoilt(rng, text) for text in bare], False)):
        for text, got, herdsman in zip(texts, mefctl([{"text": t} for t in texts]), by_herdsman(npm, texts)):
            agree(count, "zigbee-herdsman", text, got, herdsman, whole)
            agree(count, "ZHA", text, got, by_zha(text), whole)
            taken += "error" not in herdsman and "error" not in got
            if "install_code" in got:
                count.check("the CRC of a code", reference.crc_fits(got["install_code"]), True, text)
    count.check("labels that zigbee-herdsman takes, too", taken > cases / 4, True, taken)
