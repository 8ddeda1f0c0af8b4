#!/usr/bin/python3
"""Writes every frame on the simulated medium to a pcap file (link type 195: IEEE 802.15.4 with FCS), until stopped."""
import argparse
import os
import signal
import socket
import struct
import sys
import time

LINKTYPE = 195


def listen(group: str, port: int) -> socket.socket:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind((group, port))
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton("127.0.0.1"))
    return s


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--medium", default="224.0.0.116:9000", metavar="GROUP:PORT")
    p.add_argument("--channel", type=int, help="this channel only")
    p.add_argument("--ready-fd", type=int, help="a byte is written there once listening")
    p.add_argument("file")
    args = p.parse_args()
    group, _, port = args.medium.rpartition(":")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    medium = listen(group, int(port))
    with open(args.file, "wb", buffering=0) as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 256, LINKTYPE))
        if args.ready_fd is not None:
            os.write(args.ready_fd, b"\n")
        while True:
            data = medium.recv(256)
            if len(data) < 6 or (args.channel is not None and data[0] != args.channel):
                continue
            now, psdu = time.time_ns() // 1000, data[1:]
            out.write(struct.pack("<IIII", now // 1000000, now % 1000000, len(psdu), len(psdu)) + psdu)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
