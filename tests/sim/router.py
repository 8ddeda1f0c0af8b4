#!/usr/bin/python3
"""A simulated strict Zigbee 3.0 router: it joins as joiner.py does, and then opens the network to others, which may be routers
themselves. Security is hop by hop: each frame that it passes on is opened, checked for replay, and sealed again under its own
EUI-64 and counter. Arguments, events and exit status are joiner.py's.
"""
import struct
import sys
import time
from collections import deque

from joiner import CLUSTER_DEVICE_ANNCE, PROFILE_ZDP, Joiner, event, main
from radio import BROADCAST, DATA_REQUEST, FRAME_COMMAND
from zbcodec import (APS_COMMAND, KEY_DATA, FrameError, eui_bytes, eui_text, open_aps_command, parse_aps_data, parse_nwk,
                     seal_aps_command)

BEACON_REQUEST, ASSOCIATION_REQUEST = b"\x07", 0x01
NWK_ROUTE_REQUEST, NWK_ROUTE_REPLY, NWK_LEAVE, NWK_ROUTE_RECORD, NWK_REJOIN_REQUEST, NWK_REJOIN_RESPONSE, NWK_LINK_STATUS, \
    NWK_TIMEOUT_REQUEST, NWK_TIMEOUT_RESPONSE = 0x01, 0x02, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0B, 0x0C
APS_UPDATE_DEVICE, APS_REMOVE_DEVICE, APS_TUNNEL = 0x06, 0x07, 0x0E
SECURED_REJOIN, UNSECURED_JOIN, LEFT, TRUST_CENTRE_REJOIN = range(4)  # status of Update-Device
ALL_DEVICES, ALL_ROUTERS = 0xFFFF, 0xFFFC
TRUST_CENTRE = 0x0000
LINK_STATUS_PERIOD = 15.0
KEY_WAIT = 10.0             # a child that has shown no network key by then is none
DEFAULT_TIMEOUT = 256 * 60  # of an end device that asks for none
PERSISTENCE = 7.68          # macTransactionPersistenceTime
MAX_CHILDREN, MAX_DEPTH, RELAYED = 20, 15, 64


class Child:
    def __init__(self, eui: int, short: int, capability: int):
        self.eui, self.short = eui, short
        self.router, self.sleepy = bool(capability & 0x02), not capability & 0x08
        self.waiting = deque(maxlen=16)  # (until, function that sends it): what it is to poll for
        self.associating = 0.0           # until then, its association response is
        self.keyed, self.heard, self.timeout = False, time.monotonic(), DEFAULT_TIMEOUT

    def alive(self):
        self.keyed, self.heard = True, time.monotonic()

    def silent(self) -> bool:
        return time.monotonic() - self.heard > (self.timeout if self.keyed else KEY_WAIT)


class Router(Joiner):
    def __init__(self, args, link_key: bytes):
        args.router = True
        super().__init__(args, link_key)
        self.children = {}            # EUI-64 -> Child
        self.paths = {}               # NWK address -> neighbour that its frames came from
        self.relayed = deque(maxlen=RELAYED)  # (source, sequence number) of broadcasts
        self.open_for_others, self.next_status = False, 0.0
        self.radio.waits_for = lambda address: (c := self.child(address)) is not None and bool(c.associating or c.waiting)

    def child(self, address: int) -> Child | None:
        """By either of its addresses."""
        return self.children.get(address) or next((c for c in self.children.values() if c.short == address), None)

    def drop(self, child: Child, why: str):
        if self.children.pop(child.eui, None) is not None:
            event("child-gone", eui64=eui_text(child.eui), why=why)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        self.open_for_others = True
        event("open", short=f"{self.radio.short:04x}", depth=self.depth)
        self.ask_route(TRUST_CENTRE)
        return super().run()

    def hear(self, f):
        if not self.open_for_others:
            super().hear(f)
            return
        if f is not None and f.type == FRAME_COMMAND:
            self.hear_mac(f)
        else:
            super().hear(f)
        self.keep_house()

    def keep_house(self):
        now = time.monotonic()
        if now >= self.next_status:
            self.next_status = now + LINK_STATUS_PERIOD
            self.link_status()
        for c in list(self.children.values()):
            while c.waiting and c.waiting[0][0] < now:
                c.waiting.popleft()
            if c.associating < now:
                c.associating = 0.0
            if c.silent():
                self.drop(c, "silent")

    # --- MAC: beacons, associations, polls -----------------------------------------------------------------------------

    def hear_mac(self, f):
        if f.payload == BEACON_REQUEST:
            self.beacon()
        elif f.payload[:1] == bytes([ASSOCIATION_REQUEST]) and f.src_extended and len(f.payload) == 2:
            self.associate_child(f.src, f.payload[1])
        elif f.payload == DATA_REQUEST and (c := self.child(f.src)) is not None:
            if c.keyed:
                c.alive()
            if time.monotonic() < f.awake_until:
                self.answer_poll(c)

    def answer_poll(self, c: Child):
        """Who associates polls by its EUI-64, and nothing else waits for that address (802.15.4, 7.5.6.3)."""
        if c.associating:
            c.associating = 0.0 if self.associated(c) else c.associating
        elif c.waiting:
            _, send = c.waiting[0]  # it goes on waiting, so that another poll is not told otherwise, until it is taken
            if send():
                c.waiting.popleft()

    def beacon(self):
        r, room = self.radio, len(self.children) < MAX_CHILDREN and self.depth < MAX_DEPTH
        info = 0x22 | self.depth << 11 | (0x8400 if room else 0)
        r.send(struct.pack("<HBHH", 0x8000, r.next_seq(), r.pan, r.short) + struct.pack("<HBBBH", 0x8FFF, 0, 0, 0, info) +
               bytes(8) + b"\xff\xff\xff\0")

    def associate_child(self, eui: int, capability: int):
        if eui not in self.children and len(self.children) >= MAX_CHILDREN:
            return
        c = self.children.get(eui)
        if c is None or not c.keyed:  # else anybody may have said it: the child that is there stays what it is
            c = self.add_child(eui, self.free_address(), capability)
            self.peer_next.pop(eui, None)
        c.associating = time.monotonic() + PERSISTENCE

    def add_child(self, eui: int, short: int, capability: int) -> Child:
        self.children[eui] = c = Child(eui, short, capability)
        return c

    def free_address(self) -> int:
        while True:  # stochastic addressing (Zig 3.6.1.7)
            short = self.rng.randrange(1, 0xFFF8)
            if short != self.radio.short and short not in self.paths and self.child(short) is None:
                return short

    def associated(self, c: Child) -> bool:
        """Gives it its address; with that it has joined, and the Trust Centre must say what then."""
        r = self.radio
        psdu = struct.pack("<HBH", 0xCC63, r.next_seq(), r.pan) + eui_bytes(c.eui) + eui_bytes(self.eui)
        if r.send(psdu + struct.pack("<BHB", 0x02, c.short, 0)) is None:
            return False
        self.update_device(c, UNSECURED_JOIN)
        return True

    # --- sending -----------------------------------------------------------------------------------------------------

    def send_on(self, dst: int, header: bytes, payload: bytes) -> bool:
        c = self.child(dst)
        if dst >= 0xFFF8:
            for child in self.children.values():
                if child.sleepy and dst == ALL_DEVICES:
                    self.leave_waiting(child, lambda c=child: self.mac_send(c.short, self.seal(header, payload)))
            return self.mac_send(BROADCAST, self.seal(header, payload))
        hop = dst if c is not None else self.paths.get(dst, self.parent)
        return self.hand_over(hop, lambda: self.mac_send(hop, self.seal(header, payload)))

    def hand_over(self, hop: int, send) -> bool:
        """At once, or when a sleepy child polls for it; it is sealed when it is sent, so that counters keep their order."""
        c = self.child(hop)
        return self.leave_waiting(c, send) if c is not None and c.sleepy else send()

    @staticmethod
    def leave_waiting(c: Child, send) -> bool:
        c.waiting.append((time.monotonic() + PERSISTENCE, send))
        return True

    def update_device(self, c: Child, status: int):
        self.link_counter += 1
        command = bytes([APS_UPDATE_DEVICE]) + struct.pack("<QHB", c.eui, c.short, status)
        self.transmit(TRUST_CENTRE, seal_aps_command(self.link_key, self.next_aps(), self.link_counter, self.eui, command))
        event("update-device", eui64=eui_text(c.eui), short=f"{c.short:04x}", status=status)

    def link_status(self):
        neighbours = sorted({self.parent, *(c.short for c in self.children.values() if c.router)})
        entries = b"".join(struct.pack("<HB", n, 0x11) for n in neighbours)
        self.transmit_nwk(ALL_ROUTERS, 0x1209, 1, bytes([NWK_LINK_STATUS, 0x60 | len(neighbours)]) + entries)

    def ask_route(self, dst: int):
        self.transmit_nwk(ALL_ROUTERS, 0x1209, 30, struct.pack("<BBBHB", NWK_ROUTE_REQUEST, 0, self.rng.randrange(256), dst, 0))

    # --- what it hears -----------------------------------------------------------------------------------------------

    def downlink(self, f):
        nwk = parse_nwk(f.payload)
        if not nwk.secured:
            self.hear_bare_rejoin(nwk)
            return
        plain, aux = self.open(nwk)
        c = self.child(f.src)
        if c is not None and aux.source == c.eui:
            c.alive()
        if nwk.src != self.radio.short and self.child(nwk.src) is None and (c is not None or f.src == self.parent):
            self.paths[nwk.src] = f.src  # a broadcast is heard from afar as well
        if nwk.dst >= 0xFFF8:
            self.broadcast(f, nwk, plain)
        elif nwk.dst != self.radio.short:
            self.pass_on(nwk, plain)
        elif nwk.fcf & 3 == 1 and plain[0] != NWK_LEAVE:
            self.hear_nwk_command(f.src, nwk, aux, plain)
        elif nwk.fcf & 3 == 1 and c is not None:
            self.child_leaves(c, plain)
        elif not (self.open_for_others and self.hear_trust_centre(nwk, plain)):
            self.hear_own(nwk, plain, aux)

    def broadcast(self, f, nwk, plain: bytes):
        if (nwk.src, nwk.seq) in self.relayed or nwk.src == self.radio.short:
            return
        self.relayed.append((nwk.src, nwk.seq))
        if nwk.fcf & 3 == 1 and plain[0] == NWK_ROUTE_REQUEST:
            self.answer_route(f.src, nwk, plain)
        elif nwk.fcf & 3 == 1 and plain[0] == NWK_LEAVE and (c := self.child(nwk.src)) is not None:
            self.child_leaves(c, plain)
        elif nwk.fcf & 3 == 0:
            self.notice_announcement(f.src, plain)
        self.pass_on(nwk, plain)

    def pass_on(self, nwk, plain: bytes):
        if nwk.radius <= 1:
            return
        if nwk.fcf & 3 == 1 and plain[0] == NWK_ROUTE_RECORD and len(plain) >= 2:
            plain = plain[:1] + bytes([plain[1] + 1]) + plain[2:] + struct.pack("<H", self.radio.short)
        header = nwk.header[:6] + bytes([nwk.radius - 1]) + nwk.header[7:]
        if not self.send_on(nwk.dst, header, plain):
            event("not-passed-on", src=f"{nwk.src:04x}", dst=f"{nwk.dst:04x}")

    def notice_announcement(self, hop: int, plain: bytes):
        """A child that announces itself from elsewhere has another parent (Zig 2.4.3.1.11.2)."""
        aps = parse_aps_data(plain)
        if aps is None or aps.profile != PROFILE_ZDP or aps.cluster != CLUSTER_DEVICE_ANNCE or len(aps.payload) < 11:
            return
        short, eui = struct.unpack_from("<HQ", aps.payload, 1)
        c = self.children.get(eui)
        if c is not None and hop != c.short:
            self.drop(c, "has another parent")
            self.paths[short] = hop

    # --- rejoins, leaving ----------------------------------------------------------------------------------------------

    def hear_bare_rejoin(self, nwk):
        if nwk.fcf != 0x1009 or nwk.dst != self.radio.short or nwk.payload[:1] != bytes([NWK_REJOIN_REQUEST]) or len(nwk.payload) != 2:
            raise FrameError("unsecured frame after joining")
        self.rejoined(struct.unpack("<Q", nwk.header[8:16])[0], nwk.src, nwk.payload[1], TRUST_CENTRE_REJOIN)

    def rejoined(self, eui: int, short: int, capability: int, status: int):
        """It keeps its address. The answer is secured as the request was; the Trust Centre must say what then."""
        c = self.add_child(eui, short, capability)
        if status == SECURED_REJOIN:
            c.alive()
        answer = struct.pack("<BHB", NWK_REJOIN_RESPONSE, short, 0)
        self.hand_over(short, lambda: self.answer_rejoin(c, status, answer))

    def answer_rejoin(self, c: Child, status: int, answer: bytes) -> bool:
        bare = status == TRUST_CENTRE_REJOIN
        header = self.nwk_header(0x1809 if bare else 0x1A09, c.short, 1, c.eui)
        if not self.mac_send(c.short, header + answer if bare else self.seal(header, answer)):
            return False
        self.update_device(c, status)
        return True

    def child_leaves(self, c: Child, plain: bytes):
        if plain[1] & 0x40 == 0:
            self.drop(c, "left")
            self.update_device(c, LEFT)

    # --- what is for itself --------------------------------------------------------------------------------------------

    def hear_nwk_command(self, hop: int, nwk, aux, plain: bytes):
        if plain[0] == NWK_REJOIN_REQUEST and len(plain) == 2 and nwk.fcf & 0x1000 and struct.pack("<Q", aux.source) == nwk.header[-8:]:
            self.rejoined(aux.source, nwk.src, plain[1], SECURED_REJOIN)
        elif plain[0] == NWK_TIMEOUT_REQUEST and len(plain) == 3 and plain[1] <= 14 and (c := self.children.get(aux.source)):
            c.timeout = 10 if plain[1] == 0 else 60 << plain[1]
            self.transmit_nwk(c.short, 0x1A09, 1, bytes([NWK_TIMEOUT_RESPONSE, 0, 0x01]), c.eui)
        elif plain[0] == NWK_ROUTE_REPLY and len(plain) >= 8:
            self.hear_route_reply(hop, plain)

    def answer_route(self, hop: int, nwk, plain: bytes):
        if len(plain) < 6:
            raise FrameError("route request truncated")
        dst = struct.unpack_from("<H", plain, 3)[0]
        if dst == self.radio.short or self.child(dst) is not None:
            self.transmit_nwk(hop, 0x1209, 30, struct.pack("<BBBHHB", NWK_ROUTE_REPLY, 0, plain[2], nwk.src, dst, 1))

    def hear_route_reply(self, hop: int, plain: bytes):
        originator, responder = struct.unpack_from("<HH", plain, 3)
        self.paths.setdefault(responder, hop)
        if originator == self.radio.short:
            event("route", to=f"{responder:04x}", via=f"{hop:04x}")
        elif (c := self.child(originator)) is not None or originator in self.paths:
            self.transmit_nwk(c.short if c else self.paths[originator], 0x1209, 30, plain[:7] + bytes([plain[7] + 1]) + plain[8:])

    def hear_trust_centre(self, nwk, plain: bytes) -> bool:
        """Tunnel and Remove-Device; False: another frame."""
        if nwk.fcf & 3 != 0 or nwk.src != TRUST_CENTRE or plain[0] & 3 != APS_COMMAND:
            return False
        if not plain[0] & 0x20 and len(plain) > 11 and plain[2] == APS_TUNNEL:
            self.tunnelled(struct.unpack_from("<Q", plain, 3)[0], plain[11:])
            return True
        if not plain[0] & 0x20 or plain[2] >> 3 & 3 != KEY_DATA:
            return False
        command, counter = open_aps_command(plain, self.link_key, KEY_DATA, self.key.source, self.link_next)
        if len(command) != 9 or command[0] != APS_REMOVE_DEVICE:
            return False
        self.link_next = counter + 1
        self.remove(struct.unpack_from("<Q", command, 1)[0])
        return True

    def tunnelled(self, eui: int, aps: bytes):
        """Plain NWK data to the child: the frame's own security is all that it has."""
        c = self.children.get(eui)
        event("tunnel", eui64=eui_text(eui), child=c is not None)
        if c is not None:
            header = self.nwk_header(0x0008, c.short, 1)
            self.hand_over(c.short, lambda: self.mac_send(c.short, header + aps))

    def remove(self, eui: int):
        c = self.children.get(eui)
        event("remove-device", eui64=eui_text(eui), child=c is not None)
        if c is None:
            return
        header = self.nwk_header(0x1A09, c.short, 1, c.eui)
        if not c.keyed:  # it has no key to be told by
            self.removed(c)
        else:
            self.hand_over(c.short, lambda: self.mac_send(c.short, self.seal(header, bytes([NWK_LEAVE, 0x40]))) and self.removed(c))

    def removed(self, c: Child) -> bool:
        self.drop(c, "removed")
        self.update_device(c, LEFT)
        return True


if __name__ == "__main__":
    try:
        sys.exit(main(Router))
    except KeyboardInterrupt:
        sys.exit(0)
