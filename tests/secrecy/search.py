"""Where secrets are, and whether they may be there."""
import os
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from needles import needles


@dataclass(frozen=True)
class Find:
    place: str
    secret: str
    spelling: str
    offset: int
    region: str

    def __str__(self):
        return f"{self.secret} ({self.spelling}) in {self.place} at {self.offset:#x} {self.region}"


class Search:
    """secrets: name -> Secret. A search knows those that were there when it was asked."""

    def __init__(self, scanner: Path):
        self.scanner, self.secrets, self.scanned = scanner, {}, {}

    def add(self, *secrets):
        for s in secrets:
            self.secrets[s.name] = s

    def look(self, targets: dict) -> list:
        """targets: place -> file:PATH or mem:PID. Every find; bytes looked through are added up in self.scanned."""
        lines = "".join(f"{s.name}/{spelling} {needle.hex()}\n" for s in self.secrets.values()
                        for spelling, needle in needles(s.value).items())
        places = {target: place for place, target in targets.items()}
        foreign = os.geteuid() != 0 and any(t.startswith(("mem:", "file:/proc/")) for t in places)  # undumpable: root's
        done = subprocess.run([*(["sudo", "-n"] if foreign else []), self.scanner, *places], input=lines, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise AssertionError(f"secrecy-scan: {done.stderr.strip()}")
        finds, ended = [], set()
        for line in done.stdout.splitlines():
            target, name, number, *region = line.split(" ", 3)
            place = places[target]
            if name == "-":
                ended.add(place)
                kind = place.split(":")[0]
                self.scanned[kind] = self.scanned.get(kind, 0) + int(number)
                continue
            secret, _, spelling = name.rpartition("/")
            finds.append(Find(place, secret, spelling, int(number, 16), region[0]))
        if ended != set(targets):
            raise AssertionError(f"not looked through: {set(targets) - ended}")
        return finds

    def leaks(self, finds: list) -> list:
        """Those that may not be where they are, each (place, secret, region) once, in its most telling spelling."""
        worst = {}
        for f in finds:
            if not f.secret.startswith("planted:") and not any(fnmatch(f.place, p) for p in self.secrets[f.secret].holders):
                worst.setdefault((f.place, f.secret, f.offset if f.spelling == "raw" else f.region), f)
        return list(worst.values())

    def unseen(self, finds: list, places) -> list:
        """Secrets that have to be found in one of these places, and were not."""
        found = {(f.place, f.secret) for f in finds}
        return [f"{s.name} in {place}" for s in self.secrets.values() for place in s.wanted
                if place in places and (place, s.name) not in found]
