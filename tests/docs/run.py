#!/usr/bin/python3
"""The documents against the programs: run.py BUILD_DIR. Ends with 'N passed, N failed'."""
import re
import subprocess
import sys
from pathlib import Path

TESTS = ["architecture", "conformance", "openapi", "operations", "threat_model", "man", "examples"]


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    passed = failed = 0
    for name in TESTS:
        print(f"== {name}", flush=True)
        argv = [sys.executable, Path(__file__).parent / f"{name}.py", sys.argv[1]]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True)
        print(done.stdout, end="", flush=True)
        count = re.search(r"^(\d+) passed, (\d+) failed\Z", done.stdout.rstrip("\n").rsplit("\n", 1)[-1])
        passed += int(count[1]) if count else 0
        failed += int(count[2]) if count else 1  # it did not come to its end
        failed += done.returncode != 0 and count is not None and count[2] == "0"
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
