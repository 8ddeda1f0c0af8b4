#!/usr/bin/python3
"""Our CoAP endpoint against libcoap, node-coap, node-dtls-client and GnuTLS, both ways, IPv4 and IPv6, sizes from 1 byte to
100 KiB, plain and PSK, through a relay that loses a fifth: every transfer byte-equal.
    matrix.py BUILD NODE-MODULES     ends with 'N passed, N failed'"""
import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from relay import Relay  # noqa: E402

PSK, LONG = ("alice", "secretPSK0123456"), os.environ.get("MEF_TIER") == "long"
SEED = int(os.environ.get("MEF_SEED", "1"))
HOSTS = ("127.0.0.1", "::1")


def sizes(host: str) -> tuple:
    """Bytes of the bodies; over IPv6, but for the long tier, the ends and the edge of a block."""
    return (1, 16, 1023, 1024, 1025, 4096, 65536, 102400) if LONG or host == HOSTS[0] else (1, 1025, 102400)


class Matrix:
    def __init__(self, build: Path, modules: Path, folder: Path):
        self.tool, self.folder, self.passed, self.failed = build / "tests/interop/cep_tool", folder, 0, 0
        self.env = {**os.environ, "NODE_PATH": str(modules / "node_modules")}
        self.children, self.random = [], random.Random(SEED)

    def check(self, name: str, good, why=""):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        print(f"{'ok' if good else 'FAILED':<7} {name} {'' if good else why}", flush=True)

    def run(self, *argv, data=b"", timeout=60, fast=False):
        env = {**self.env, **({"CEP_ACK_MS": "50"} if fast else {})}
        try:
            done = subprocess.run([str(a) for a in argv], input=data, capture_output=True, timeout=timeout, env=env)
        except subprocess.TimeoutExpired:
            return None
        return done.stdout if done.returncode == 0 else None

    def serve(self, *argv) -> int:
        child = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                 env={**self.env, "CEP_ACK_MS": "50"})
        self.children.append(child)
        return int(child.stdout.readline())

    def libcoap(self, method, host, port, path, psk, body=None, *more):
        out, given = self.folder / "out", self.folder / "in"
        out.write_bytes(b"")
        where = f"{'coaps' if psk else 'coap'}://{f'[{host}]' if ':' in host else host}:{port}/{path}"
        argv = ["timeout", "50", "coap-client-openssl", "-B", "45", *more, "-o", out, "-m", method,
                *(["-u", PSK[0], "-k", PSK[1]] if psk else [])]
        if body is not None:
            given.write_bytes(body)
            argv += ["-f", given]
        return out.read_bytes() if self.run(*argv, where) is not None else None

    def node(self, *argv, data=b""):
        return self.run("node", HERE / "strangers.js", *argv, data=data)

    def ours(self, host, port, method, path, psk, data=b"", fast=False):
        return self.run(self.tool, "client", host, port, method, path, *psk, data=data, fast=fast)

    # --- strangers against our server ---------------------------------------------------------------------------------

    def our_server(self, host: str, psk: tuple):
        kind = f"{'PSK' if psk else 'plain'} {host}"
        port = self.serve(self.tool, "server", host, 0, *psk)
        for size in sizes(host):
            body = self.random.randbytes(size)
            self.libcoap("put", host, port, "kept", psk, body)
            self.check(f"libcoap client, {kind}: PUT and GET {size}",
                       self.libcoap("get", host, port, "kept", psk) == body)
        self.check(f"libcoap client, {kind}: NON", self.libcoap("get", host, port, "kept", psk, None, "-N") == body)
        self.check(f"libcoap client, {kind}: separate", self.libcoap("get", host, port, "slow", psk) == b"slow")
        if psk:
            said = self.node("dtls-get", host, port, "whoami", *psk)
            self.check(f"node-dtls-client, {kind}: CCM_8 and GET", said == b"alice", said)
            self.gnutls(host, port)
        else:
            self.node_client(host, port, kind)

    def node_client(self, host, port, kind):
        for size in sizes(host):
            body = self.random.randbytes(size)
            self.node("put", host, port, "kept", data=body)
            self.check(f"node-coap client, {kind}: PUT and GET {size}", self.node("get", host, port, "kept") == body)
        said = self.node("observe", host, port, "state") or b""
        self.check(f"node-coap client, {kind}: observe", len(said.split()) == 3, said)

    def gnutls(self, host, port):
        key = PSK[1].encode().hex()
        done = subprocess.run(["timeout", "10", "gnutls-cli", "--udp", "--port", str(port), host, "--pskusername",
                               PSK[0], "--pskkey", key, "--priority",
                               "NORMAL:-KX-ALL:+PSK:-CIPHER-ALL:+AES-128-CCM-8:+AES-128-CCM:-VERS-ALL:+VERS-DTLS1.2"],
                               input=b"", capture_output=True, check=False)
        self.check(f"gnutls-cli, PSK {host}", b"Handshake was completed" in done.stdout, done.stdout[-200:])

    # --- our client against strangers ---------------------------------------------------------------------------------

    def our_client(self, host: str):
        port = self.serve("node", HERE / "strangers.js", "serve", host)
        self.transfers(f"node-coap server, plain {host}", host, port, ())
        said = self.run(self.tool, "observe", host, port, 3, "time") or b""
        self.check(f"node-coap server, plain {host}: observe", len(said.split()) == 3, said)
        for psk in ((), PSK):
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind((host, 0))
                port = s.getsockname()[1]
            self.children.append(subprocess.Popen(["coap-server-openssl", "-A", host, "-p", str(port), "-d", "10",
                    *(["-k", PSK[1], "-h", ""] if psk else [])],
                                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(0.5)
            self.transfers(f"libcoap server, {'PSK' if psk else 'plain'} {host}", host, port + bool(psk), psk)

    def transfers(self, kind, host, port, psk):
        for size in sizes(host):
            body = self.random.randbytes(size)
            self.ours(host, port, "PUT", "kept", psk, body)
            self.check(f"{kind}: PUT and GET {size}", self.ours(host, port, "GET", "kept", psk) == body)

    # --- a bad road ---------------------------------------------------------------------------------------------------

    def bad_road(self, host: str, psk: tuple):
        port = self.serve(self.tool, "server", host, 0, *psk)
        kind = f"{'PSK' if psk else 'plain'} {host}"
        relay = Relay(host, port, SEED)
        whole = LONG or host == HOSTS[0]
        for size in (1, 4096, 102400) if whole else (1, 4096):
            body = self.random.randbytes(size)
            sent = self.ours(host, relay.port, "PUT", "kept", psk, body, fast=True)
            self.check(f"bad road, ours, {kind}: PUT {size}",
                       sent is not None and self.ours(host, port, "GET", "kept", psk) == body)
            self.check(f"bad road, ours, {kind}: GET {size}",
                       self.ours(host, relay.port, "GET", "kept", psk, fast=True) == body)
        body = self.random.randbytes(102400 if LONG else 2000)
        self.ours(host, port, "PUT", "kept", psk, body)
        if whole:
            # libcoap's client gives up after four repeats of a datagram, which this loss makes likely over many blocks:
            # it may begin anew; what it does bring home has to be right.
            for _ in range(6):
                said = self.libcoap("get", host, relay.port, "kept", psk)
                if said:
                    break
            self.check(f"bad road, libcoap client, {kind}: GET {len(body)}", said == body)
        self.check(f"bad road, {kind}: it was bad", relay.lost > 1)
        relay.close()
        twice = Relay(host, port, SEED, loss=0, double=1, late=0)
        hits = [self.ours(host, twice.port, "POST", "hits", psk, fast=True) for _ in range(5)]
        self.check(f"every datagram twice, {kind}: done once", hits == [b"%d\n" % n for n in range(1, 6)], hits)
        twice.close()

    def close(self):
        for child in self.children:
            child.kill()
            child.communicate()


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    print(f"seed {SEED}")
    with tempfile.TemporaryDirectory(prefix="mef-interop-") as folder:
        m = Matrix(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), Path(folder))
        with contextlib.closing(m):
            for host in HOSTS:
                for psk in ((), PSK):
                    m.our_server(host, psk)
                    m.bad_road(host, psk)
                m.our_client(host)
    print(f"{m.passed} passed, {m.failed} failed")
    return 0 if m.passed and not m.failed else 1


if __name__ == "__main__":
    sys.exit(main())
