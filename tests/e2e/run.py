#!/usr/bin/python3
"""End-to-end tests: run.py BUILD [TEST..]. Ends with 'N passed, N failed'."""
import os
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Result(unittest.TestResult):
    """One line a test, with its time."""

    def __init__(self):
        super().__init__()
        self.passed, self.bad = 0, []

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def _line(self, test, word):
        print(f"{word:<6} {time.monotonic() - self.began:6.1f} s  {test.id()}", flush=True)

    def addSuccess(self, test):
        self.passed += 1
        self._line(test, "ok")

    def _failed(self, test, error):
        if test not in self.bad:
            self.bad.append(test)
        self.began = getattr(self, "began", time.monotonic())
        self._line(test, "FAILED")
        print(self._exc_info_to_string(error, test), flush=True)

    def addFailure(self, test, error):
        self._failed(test, error)

    def addError(self, test, error):
        self._failed(test, error)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self._failed(test, error)
        else:
            self._line(subtest, "  ok")

    def addSkip(self, test, reason):
        self._line(test, "skip")


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    os.environ["MEF_BUILD"] = str(Path(sys.argv[1]).resolve())
    sys.path.insert(0, str(HERE))
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(sys.argv[2:]) if sys.argv[2:] else loader.discover(str(HERE), "test_*.py")
    result = Result()
    suite.run(result)
    print(f"{result.passed} passed, {len(result.bad)} failed")
    return 0 if result.passed and not result.bad else 1


if __name__ == "__main__":
    sys.exit(main())
