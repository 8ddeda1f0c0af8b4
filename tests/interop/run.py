#!/usr/bin/env python3
"""Interoperability with what we did not write: libcoap's tools, OpenSSL, curl, a client written from the page. Usage: BUILD_DIR"""
import re
import subprocess
import sys

build = sys.argv[1] if len(sys.argv) > 1 else "build/release"
done = subprocess.run(["meson", "test", "-C", build, "--suite", "interop", "--print-errorlogs"], capture_output=True, text=True)
print(done.stdout, done.stderr)
count = {k: int(n) for k, n in re.findall(r"^(Ok|Fail|Timeout|Unexpected Pass|Skipped): +(\d+)", done.stdout, re.M)}
passed = count.get("Ok", 0)
print(f"{passed} passed, {sum(count.values()) - passed} failed")
sys.exit(0 if done.returncode == 0 and passed > 0 else 1)
