"""Secrets planted where none may be, so that a search which passes there is known to see. Where the system lets a stranger
write something, it is written that way; else into what the harness wrote down."""
import os
import shutil
import socket
import sqlite3
import struct

import zbcodec
from needles import Plant
from stack import GROUP, PYTHON

HOLD = "import sys, time; kept = bytes.fromhex(sys.stdin.readline()); print('{}', flush=True); time.sleep(1e6)"


class Planter:
    """wanted: what has to be found: (name/spelling, place)."""

    def __init__(self, rng, search):
        self.rng, self.search, self.wanted = rng, search, set()

    def plant(self, name: str, *places: str, text_only: bool = False) -> Plant:
        p = Plant(self.rng, name, text_only)
        self.search.add(*p.secrets)
        self.expect(p, *places)
        return p

    def expect(self, p: Plant, *places: str):
        self.wanted |= {(i, place) for i in p.ids() for place in places}

    def forget(self, name: str, place: str):
        """What was planted there is withdrawn."""
        self.wanted = {(i, at) for i, at in self.wanted if not (i.startswith(f"planted:{name}:") and at == place)}

    def missed(self, finds: list, places) -> list:
        """Of what is planted in these places."""
        seen = {(f"{f.secret}/{f.spelling}", f.place) for f in finds}
        return [f"{i} in {place}" for i, place in sorted(self.wanted) if place in places and (i, place) not in seen]

    def count(self, places) -> int:
        return sum(place in places for _, place in self.wanted)

    # --- places ------------------------------------------------------------------------------------------------------

    def environment(self):
        """Every process has it, in its environment and so in its memory."""
        self.environ = self.plant("environ")
        os.environb[b"MEF_PLANTED"] = self.environ.blob()

    def started(self, *processes: str):
        self.expect(self.environ, *(f"{kind}:{p}" for kind in ("memory", "environ") for p in processes))

    def holder(self, stack):
        """A process that has one in its arguments and one on its heap."""
        heap, argv = self.plant("heap", "memory:holder"), self.plant("argv", "argv:holder")
        p = stack.spawn("holder", [PYTHON, "-c", HOLD, os.fsdecode(argv.blob())], events=True, stdin=heap.blob().hex() + "\n")
        if p.wait_event(10) is None:
            raise AssertionError("the holder did not start")

    def lines(self, stack, captures):
        """Noise on every line: what is no frame, no datagram and no record is dropped at the other end."""
        for direction in ("up", "down"):
            uart = self.plant(f"uart-{direction}", f"capture:uart.{direction}", f"capture:uart.{direction}.unstuffed")
            stack.uart.inject(direction, b"".join(b"\x7e" + piece + b"\x7e" for piece in uart.pieces.values()))
        dtls = self.plant("dtls", "capture:dtls.pcap")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for piece in dtls.pieces.values():
                s.sendto(piece, ("127.0.0.1", stack.dtls.port))
        tls = self.plant("https", "capture:https.up")
        with socket.create_connection(("127.0.0.1", stack.tls.port)) as s:
            s.sendall(tls.blob())
            s.shutdown(socket.SHUT_WR)
            while s.recv(4096):
                pass
        down = self.plant("https-down", "capture:https.down")
        with open(captures / "https.down", "ab") as out:
            out.write(down.blob())

    def radio(self, stack):
        plant = self.plant("radio", "capture:radio.pcap")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            for piece in plant.pieces.values():
                psdu = struct.pack("<HBHHH", 0x8841, 0, 0xFFFF, 0xFFFF, 0xFFF0) + piece  # of another PAN
                s.sendto(bytes([stack.channel]) + psdu + zbcodec.fcs(psdu), (GROUP, stack.medium_port))

    def names(self, stack):
        """By REST: the gateway's name is answered, and is in the database."""
        plant = self.plant("name", "capture:answers.rest", "file:mef/mef.db-wal", text_only=True)
        path, binding = f"/v1/gateways/{stack.gateway_eui}", {"identity": stack.gw_credential["kpmId"]}
        for piece in plant.pieces.values():
            stack.must("PUT", path, {**binding, "name": piece.decode()})
            stack.must("GET", path)

    def labels(self, name: str, *places: str) -> list:
        """By Mmef: labels of a key are answered, and are in mefd's memory."""
        plant = self.plant(name, *places, text_only=True)
        return [piece.decode() for piece in plant.pieces.values()]

    def files(self, stack):
        """In each kind of file."""
        for kind, path in (("log", stack.logs / "mefd.log"), ("configuration", stack.etc / "planted.conf")):
            with open(path, "ab") as out:
                out.write(self.plant(kind, f"file:{path.relative_to(stack.folder)}").blob() + b"\n")
        for kind, keep in (("database", False), ("journal", True)):
            copy = stack.folder / f"planted-{kind}.db"
            for suffix in ("", "-wal"):
                shutil.copyfile(f"{stack.etc / 'mef.db'}{suffix}", f"{copy}{suffix}")
            plant = self.plant(kind, f"file:{copy.name}" + ("-wal" if keep else ""))
            db = sqlite3.connect(copy)
            db.execute("CREATE TABLE planted (v BLOB)")
            db.execute("INSERT INTO planted VALUES (?)", (plant.blob(),))
            db.commit()
            if keep:
                self.open_journal = db  # its end would write the journal back
            else:
                db.close()

    def answers(self, captures):
        for kind in ("rest", "coap", "mmef", "status", "events"):
            plant = self.plant(f"answers-{kind}", f"capture:answers.{kind}")
            with open(captures / f"answers.{kind}", "ab") as out:
                out.write(plant.blob() + b"\n")
