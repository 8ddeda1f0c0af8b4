"""An 802.15.4 radio on the UDP medium of OpenThread's simulation: a datagram is channel || PSDU || FCS, sent to a
multicast group on the loopback interface; acknowledgements are frames of their own."""
import random
import select
import socket
import struct
import time
from collections import deque

from zbcodec import fcs

ACK_WAIT = 0.06     # generous against 0.86 ms on the air: processes are scheduled, radios are not
RETRIES = 3         # macMaxFrameRetries
POLL_FRAME_WAIT = 0.1 + (1 + RETRIES) * ACK_WAIT  # macMaxFrameTotalWaitTime, stretched: the parent may be sending in vain
BROADCAST = 0xFFFF
FRAME_BEACON, FRAME_DATA, FRAME_ACK, FRAME_COMMAND = range(4)
FRAME_PENDING = 0x10
DATA_REQUEST = b"\x04"


class MacFrame:
    """A parsed MAC frame of version 0 or 1. Raises ValueError or struct.error when it is none."""

    def __init__(self, psdu: bytes):
        self.fcf, self.seq = struct.unpack_from("<HB", psdu)
        self.type = self.fcf & 7
        self.ack_request = bool(self.fcf & 0x20)
        self.pending = bool(self.fcf & FRAME_PENDING)
        self.dst_pan = self.dst = self.src_pan = self.src = None
        self.awake_until = 0.0  # of a poll: its sender was told that a frame waits, and listens for it until then
        at = 3
        dst_mode, src_mode = self.fcf >> 10 & 3, self.fcf >> 14 & 3
        if dst_mode:
            self.dst_pan = struct.unpack_from("<H", psdu, at)[0]
            self.dst, at = self._address(psdu, at + 2, dst_mode)
        if src_mode:
            if self.fcf & 0x40:
                self.src_pan = self.dst_pan
            else:
                self.src_pan = struct.unpack_from("<H", psdu, at)[0]
                at += 2
            self.src, at = self._address(psdu, at, src_mode)
        self.dst_extended, self.src_extended = dst_mode == 3, src_mode == 3
        self.payload = psdu[at:]

    @staticmethod
    def _address(psdu, at, mode):
        if mode == 1:
            raise ValueError("reserved addressing mode")
        fmt, n = ("<H", 2) if mode == 2 else ("<Q", 8)
        return struct.unpack_from(fmt, psdu, at)[0], at + n


class Radio:
    def __init__(self, group: str, port: int, channel: int, eui: int, rng: random.Random):
        self.group, self.port, self.channel, self.eui = group, port, channel, eui
        self.pan, self.short = BROADCAST, BROADCAST
        self.seq = rng.randrange(256)
        self.rx = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.rx.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.rx.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.rx.bind((group, port))
        membership = socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
        self.rx.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        self.tx = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tx.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        self.tx.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        self.tx.bind(("127.0.0.1", 0))
        self.queue = deque(maxlen=64)
        self.seen = {}  # sender -> last sequence number: repeats of a frame whose ack was lost
        self.waits_for = lambda address: False  # does a frame wait for the one that polls? Told in the acknowledgement

    def next_seq(self) -> int:
        self.seq = self.seq + 1 & 0xFF
        return self.seq

    def _emit(self, psdu: bytes):
        self.tx.sendto(bytes([self.channel]) + psdu + fcs(psdu), (self.group, self.port))

    def _for_us(self, f: MacFrame) -> bool:
        if f.type == FRAME_BEACON:
            return True
        if f.dst is None or f.dst_pan not in (self.pan, BROADCAST):
            return False
        return f.dst == self.eui if f.dst_extended else f.dst in (self.short, BROADCAST)

    def _pump(self, timeout: float) -> MacFrame | None:
        """Wait for one datagram; acknowledge it when it is for us; return an ack frame, queue anything else for us."""
        if not select.select([self.rx], [], [], max(timeout, 0))[0]:
            return None
        data, sender = self.rx.recvfrom(256)
        psdu = data[1:-2]
        if sender == self.tx.getsockname() or data[:1] != bytes([self.channel]) or fcs(psdu) != data[-2:]:
            return None
        try:
            frame = MacFrame(psdu)
        except (ValueError, struct.error):
            return None
        if frame.type == FRAME_ACK:
            return frame
        if not self._for_us(frame):
            return None
        if frame.ack_request and frame.dst != BROADCAST:
            poll = frame.type == FRAME_COMMAND and frame.payload == DATA_REQUEST
            waits = poll and self.waits_for(frame.src)
            frame.awake_until = time.monotonic() + POLL_FRAME_WAIT if waits else 0.0
            self._emit(struct.pack("<HB", FRAME_ACK | (FRAME_PENDING if waits else 0), frame.seq))
            if self.seen.get(frame.src) == frame.seq:
                return None
            self.seen[frame.src] = frame.seq
        self.queue.append(frame)
        return None

    def catch_up(self):
        """Take in what has come. An acknowledgement that is there before a frame is sent is another's."""
        while select.select([self.rx], [], [], 0)[0]:
            self._pump(0)

    def slept(self):
        """The receiver was off: what was sent meanwhile has not been heard."""
        while select.select([self.rx], [], [], 0)[0]:
            self.rx.recv(256)

    def send(self, psdu: bytes) -> MacFrame | None:
        """Send; when an acknowledgement is requested, repeat until it comes. Returns it, or None."""
        wants_ack = psdu[0] & 0x20
        self.catch_up()
        for _ in range(1 + RETRIES):
            self._emit(psdu)
            if not wants_ack:
                return None
            end = time.monotonic() + ACK_WAIT
            while (left := end - time.monotonic()) > 0:
                ack = self._pump(left)
                if ack is not None and ack.seq == psdu[2]:
                    return ack
        return None

    def receive(self, timeout: float) -> MacFrame | None:
        """The next frame for us, or None after timeout seconds."""
        end = time.monotonic() + timeout
        while not self.queue:
            left = end - time.monotonic()
            if left <= 0:
                return None
            self._pump(left)
        return self.queue.popleft()
