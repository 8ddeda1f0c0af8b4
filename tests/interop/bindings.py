"""mefd with the tiny plugin of the unit tests, for tests that speak HTTP over TLS byte by byte."""
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from stack import free_port  # noqa: E402


class Mefd:
    """One process; `https` holds further lines of its section."""

    def __init__(self, https="", plugin=None):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="test-bindings-"))
        subprocess.run([os.environ["MEFCTL"], "init", "--fqdn", "mef.test.example", "--dir", str(self.dir)], check=True,
                       stdout=subprocess.DEVNULL)
        self.port, status = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
        self.status = status
        listen = f"listen = 127.0.0.1:{self.port}, [::1]:{self.port}\n{https}"
        if plugin is None:
            text = "[https]\n{}\ncertificate = server.pem\nprivate-key = server.key\n[status]\nlisten = 127.0.0.1:{}\n"
            text = text.format(listen, status) + f"[coap]\nlisten =\n[daemon]\nplugin = {os.environ['TINY_PLUGIN']}\n"
        else:
            text = (self.dir / "mefd.conf").read_text().replace("[daemon]", f"[daemon]\nplugin = {plugin}")
            text = text.replace("listen = [::]:5684, 0.0.0.0:5684", "listen =").replace(":9464", f":{status}")
            text = text.replace("listen = [::]:8443, 0.0.0.0:8443", listen)
        (self.dir / "mefd.conf").write_text(text)
        self.log = open(self.dir / "log", "w")
        self.process = subprocess.Popen([os.environ["MEFD"], "--config", str(self.dir / "mefd.conf")], stderr=self.log)
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.025)
        raise RuntimeError("mefd does not listen: " + (self.dir / "log").read_text())

    def connect(self, host="127.0.0.1", timeout=10):
        context = ssl.create_default_context(cafile=str(self.dir / "server.pem"))
        context.check_hostname = False
        return context.wrap_socket(socket.create_connection((host, self.port), timeout))

    def metric(self, name):
        with socket.create_connection(("127.0.0.1", self.status), 5) as s:
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
        return next(int(l.split()[1]) for l in text.splitlines() if l.startswith(name + " "))

    def stop(self):
        self.process.terminate()
        code = self.process.wait(20)
        self.log.close()
        text = (self.dir / "log").read_text()
        assert code == 0 and "Sanitizer" not in text and "runtime error" not in text, text
        subprocess.run(["rm", "-r", str(self.dir)], check=True)


def read_all(s):
    """Everything until the server closes; and whether it closed in order (not by reset or by time)."""
    out = b""
    try:
        while True:
            got = s.recv(65536)
            if not got:
                return out, "closed"
            out += got
    except (ConnectionResetError, ssl.SSLError) as e:
        return out, "reset" if isinstance(e, ConnectionResetError) else "tls:" + str(e.reason)
    except (TimeoutError, socket.timeout):
        return out, "open"

