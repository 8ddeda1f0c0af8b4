#!/usr/bin/python3
"""How long the machine let nobody run who wanted to: sleeps a millisecond at a time until standard input ends, and notes how
late it wakes. Prints one JSON object, milliseconds. A process of its own: no other thread's lock can hold it up."""
import json
import select
import time

NAP = 0.001


def main():
    late = []
    due = time.monotonic() + NAP
    while not select.select([0], [], [], max(due - time.monotonic(), 0))[0]:
        now = time.monotonic()
        late.append((now - due) * 1e3)
        due = now + NAP
    late = sorted(late) or [0.0]
    print(json.dumps({"longest": round(late[-1], 1), "p99": round(late[int(len(late) * 0.99)], 1),
                      "over_10": sum(x > 10 for x in late), "over_100": sum(x > 100 for x in late), "naps": len(late)}))


if __name__ == "__main__":
    main()
