"""A UDP relay that loses, doubles and reorders, by a seed: what comes of a run can be had again. It can write down what passes."""
import contextlib
import random
import socket
import threading


class Relay:
    """Clients send to (host, self.port); each has a socket of its own towards the server. tap(direction, data, client)
    hears every datagram, "up" from a client or "down" to one, before its fate."""

    def __init__(self, host: str, server_port: int, seed: int, loss=0.2, double=0.1, late=0.1, tap=lambda direction, data, client: None):
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.server, self.random = (host, server_port), random.Random(seed)
        self.loss, self.double, self.late, self.tap = loss, double, late, tap
        self.lost = 0
        self.front = socket.socket(self.family, socket.SOCK_DGRAM)
        self.front.bind((host, 0))
        self.port, self.backs = self.front.getsockname()[1], {}
        threading.Thread(target=self._up, daemon=True).start()

    def _fate(self, send):
        """Send none, one or two copies, now or 30 ms later, when others have passed."""
        if self.random.random() < self.loss:
            self.lost += 1
            return
        for _ in range(2 if self.random.random() < self.double else 1):
            if self.random.random() < self.late:
                threading.Timer(0.03, self._quietly, [send]).start()
            else:
                self._quietly(send)

    @staticmethod
    def _quietly(send):
        with contextlib.suppress(OSError):
            send()

    def _up(self):
        with contextlib.suppress(OSError):
            while True:
                data, client = self.front.recvfrom(65536)
                if client is None:
                    return  # closed
                if client not in self.backs:
                    back = self.backs[client] = socket.socket(self.family, socket.SOCK_DGRAM)
                    back.connect(self.server)
                    threading.Thread(target=self._down, args=(back, client), daemon=True).start()
                self.tap("up", data, client)
                self._fate(lambda back=self.backs[client], data=data: back.send(data))

    def _down(self, back, client):
        while True:
            try:
                data = back.recv(65536)
            except ConnectionRefusedError:
                continue
            except OSError:
                return
            if not data:
                return
            self.tap("down", data, client)
            self._fate(lambda data=data: self.front.sendto(data, client))

    def close(self):
        for s in (self.front, *self.backs.values()):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()
