"""What the end-to-end tests share: a running stack for each class, and the folder of the build under test."""
import os
import re
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

from stack import SIM, Stack, install_code, random_eui64

SHORT_CODES = {("eg", "allow-short-install-codes"): "yes"}


def build() -> Path:
    return Path(os.environ.get("MEF_BUILD", "build/demo")).resolve()


def stalled() -> float:
    """Seconds, ever, in which something on this machine waited for a processor; 0 where the kernel does not tell."""
    try:
        return int(re.search(r"^some .*total=(\d+)", Path("/proc/pressure/cpu").read_text(), re.M)[1]) / 1e6
    except OSError:
        return 0


class StackTest(unittest.TestCase):
    """setUpClass starts everything; prepare() of the class follows; tearDownClass ends it and keeps the logs of a failure."""

    options = SHORT_CODES
    gateway = True

    @classmethod
    def setUpClass(cls):
        cls.codes = {}  # install codes of the devices that joined
        cls.folder = Path(tempfile.mkdtemp(prefix="mef-e2e-"))
        cls.stack = Stack(build(), cls.folder)
        try:
            cls.stack.init(cls.options)
            cls.stack.start_mefd()
            cls.stack.make_credentials()
            if cls.gateway:
                cls.stack.start_gateway()
            cls.prepare()
        except BaseException:
            cls._end(failed=True)
            raise

    @classmethod
    def prepare(cls):
        pass

    @classmethod
    def tearDownClass(cls):
        cls._end(failed=False)

    @classmethod
    def _end(cls, failed: bool):
        try:
            cls.stack.stop()
        except Exception as e:
            if not failed:
                raise
            print(e, file=sys.stderr)
        finally:
            if failed or os.environ.get("MEF_KEEP"):
                print(f"logs are in {cls.folder}", file=sys.stderr)
            else:
                shutil.rmtree(cls.folder, ignore_errors=True)


class DevicesTest(StackTest):
    """Devices that join, report a temperature of -5.12 °C and take commands."""

    REPORT = ("--report", "0x0402/0/s16/-512/0.5")

    def enrol(self, *options, program: str = "joiner", registration: dict | None = None):
        """(EUI-64, key, process) of a device that has enrolled, and whose key and reading the AE has."""
        s, eui, code = self.stack, random_eui64(), install_code()
        s.register_code(eui, code, **registration or {})
        key = self.folder / f"{eui}.key"
        joiner = s.join(eui, code, *self.REPORT, "--key-out", key, *options, program=program)
        self.addCleanup(joiner.stop)
        self.codes[eui] = code
        self.assertIsNotNone(joiner.wait_event(10, event="joined"), joiner.tail())
        s.wait_state(eui, "enrolled")
        ae_key = self.folder / f"{eui}.ae"
        self.assertEqual(s.mefkey("get", eui, "--out", ae_key)[0], 0)
        self.assertEqual(ae_key.read_text(), key.read_text().strip())
        follow = s.follow(eui, "--count", "1")
        self.assertEqual(follow.wait_event(8, cluster=0x0402)["value"], -5.12, follow.tail())
        return eui, ae_key.read_text(), joiner

    def command(self, eui: str, joiner):
        for on in (1, 0, 1):
            status, _, err = self.stack.mefkey("send", eui, "--cluster", "0x0006", "--command", str(on))
            self.assertEqual(status, 0, err)
            self.assertIsNotNone(joiner.wait_event(5, event="on-off", on=bool(on)), joiner.tail())


def open_transport_key(frame: bytes, code: str, eui: str) -> tuple[bytes, int]:
    """(network key, APS counter) of a first Transport-Key, by the simulated joiner's own codec."""
    sys.path.insert(0, str(SIM))
    import zbcodec
    tk = zbcodec.open_transport_key(zbcodec.parse_nwk(frame), zbcodec.link_key_of(bytes.fromhex(code)), int(eui, 16), 0)
    return tk.key, tk.counter
