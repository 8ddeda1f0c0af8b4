"""The second exchange as a strict Zigbee 3.0 device does it (BDB 10.2.5): Node_Desc, Request-Key, Transport-Key, Verify-Key,
Confirm-Key; three transmissions of each message, and it leaves when one stays without its answer."""
import struct
import time

from zbcodec import (APS_COMMAND, CMD_CONFIRM_KEY, CMD_REQUEST_KEY, CMD_VERIFY_KEY, KEY_DATA, KEY_LOAD, KEY_TYPE_TCLK,
                     FrameError, build_aps_data, eui_bytes, open_aps_command, parse_link_key, seal_aps_command, verify_hash)

START = 0.3  # after the announcement
TRIES = 3
NODE_DESC_REQ, NODE_DESC_RSP = 0x0002, 0x8002
FIRST_REVISION = 21


class LinkKeyExchange:
    """Drives a joiner: `send(aps)` transmits to the Trust Centre, `wait(until, seconds)` takes frames in meanwhile."""

    def __init__(self, own: int, trust_centre: int, link_key: bytes, link_next: int, answer_time: float, next_aps, send, wait):
        self.own, self.trust_centre, self.link_key = own, trust_centre, link_key
        self.answer_time, self.next_aps, self.send, self.wait = answer_time, next_aps, send, wait
        self.counter, self.link_next, self.new_next = 0, link_next, 0
        self.revision = self.new_key = None
        self.confirmed = False

    def run(self) -> str | None:
        """None: done (or the Trust Centre is older than r21 and there is nothing to do); else the step that failed."""
        self.wait(lambda: False, START)
        if not self._step(self._ask_node, lambda: self.revision is not None):
            return "node-descriptor"
        if self.revision < FIRST_REVISION:
            return None
        if not self._step(self._request, lambda: self.new_key is not None):
            return "request-key"
        if not self._step(self._verify, lambda: self.confirmed):
            return "verify-key"
        return None

    def _step(self, act, done) -> bool:
        for _ in range(TRIES):
            act()
            if self.wait(done, self.answer_time):
                return True
            time.sleep(0.25)
        return False

    def _ask_node(self):
        self.send(build_aps_data(0, 0, NODE_DESC_REQ, 0, 0, self.next_aps(), struct.pack("<BH", 1, 0x0000)))

    def _request(self):
        self.counter += 1
        self.send(seal_aps_command(self.link_key, self.next_aps(), self.counter, self.own,
                                   bytes([CMD_REQUEST_KEY, KEY_TYPE_TCLK])))

    def _verify(self):
        self.send(bytes([APS_COMMAND, self.next_aps(), CMD_VERIFY_KEY, KEY_TYPE_TCLK]) + eui_bytes(self.own) +
                  verify_hash(self.new_key))

    def hear_node_descriptor(self, payload: bytes):
        if len(payload) >= 14 and payload[1] == 0 and payload[2:4] == b"\0\0":
            self.revision = struct.unpack_from("<H", payload, 12)[0] >> 9

    def hear_command(self, aps: bytes):
        if len(aps) < 3 or not aps[0] & 0x20:
            raise FrameError("APS command without APS security")
        if aps[2] >> 3 & 3 == KEY_LOAD:
            command, counter = open_aps_command(aps, self.link_key, KEY_LOAD, self.trust_centre, self.link_next)
            self.link_next = counter + 1
            self.new_key = parse_link_key(command, self.own, self.trust_centre, self.link_key)
            return
        if self.new_key is None:
            raise FrameError("secured under a link key that was not given")
        command, counter = open_aps_command(aps, self.new_key, KEY_DATA, self.trust_centre, self.new_next)
        self.new_next = counter + 1
        if len(command) != 11 or command[0] != CMD_CONFIRM_KEY or command[2] != KEY_TYPE_TCLK:
            raise FrameError("not a Confirm-Key")
        if command[3:] != eui_bytes(self.own) or command[1] != 0:
            raise FrameError("Confirm-Key for another device, or of a failure")
        self.confirmed = True
