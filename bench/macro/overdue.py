#!/usr/bin/env python3
"""Measures how soon very many holds that end at once can be bought, and what that costs other sales; writes
bench/runs/<date>-<machine>/: overdue.jsonl, overdue.md.

    make bench-overdue                                               # builds, then runs this
    bench/macro/overdue.py --binary old/before --binary target/release/after   # before and after: named by their files
    bench/macro/overdue.py --holds 40000 --trials 1                        # a small part of it

One host of one loop on one Redis. A sale of which every ticket is held, by as many bookings of one ticket: they are booked
by pipelined requests, and between these the operator sets the sale's hold so that all end within one second, however long
the booking takes. Another sale is booked at a fixed rate, by `bench/load`: for some seconds while all holds last, and for as
many from the moment at which the first of them ends. Latencies count from when a request was to leave.

From the end of the last hold on one buyer asks for all tickets of the sale, in one booking, every few milliseconds until it
gets them. Then it is waited until every hold is entered as expired, and `boxoffice audit` must agree.

Python's standard library only.
"""

import argparse
import json
import pathlib
import socket
import statistics
import subprocess
import tempfile
import threading
import time

import servers
from measuring import Load
from news import Commands, Pipe, expect
from servers import HUGE, ROOT, fail

CONNECTIONS = 64  # of whoever books the holds: on each, one booking after another
BATCH = 2_000  # holds between two looks at the clock
SPREAD = 0.9  # seconds from the end of the first hold to that of the last
PROBE = 0.01  # seconds between two tries to buy all
HOLDS_KEY = "bx:{ticket}:holds"


class Filler:
    """Connections on which many bookings are asked for before an answer is read."""

    def __init__(self, port):
        self.streams = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(CONNECTIONS)]
        self.port = port

    def book(self, numbers):
        shares = [numbers[at::CONNECTIONS] for at in range(CONNECTIONS)]
        for stream, share in zip(self.streams, shares):
            stream.sendall(b"".join(b"PUT /v1/sales/ticket/bookings/held-%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in share))
        for stream, share in zip(self.streams, shares):
            answers = b""
            # Each answer has one status line, and one `expires_at` in a body that ends with it.
            while answers.count(b'"expires_at":') < len(share) or not answers.endswith(b'"}'):
                more = stream.recv(1 << 20)
                if not more:
                    fail("the host hung up on whoever books the holds")
                answers += more
                if answers.count(b"HTTP/1.1 ") > answers.count(b"HTTP/1.1 201 "):
                    fail(f"a hold was not booked: {answers[-400:]!r}")

    def close(self):
        for stream in self.streams:
            stream.close()


def set_hold(operator, seconds):
    expect(operator.ask("/v1/sales/ticket", "PUT", json.dumps({"hold_seconds": round(seconds, 3)})), 200)


def fill(host, operator, holds, ends_at):
    """Books them, so that they end from then on (by the clock of this machine, as `time.time`)."""
    filler = Filler(host.port)
    for first in range(0, holds, BATCH):
        left = ends_at + SPREAD * first / holds - time.time()
        if left < 0.2:
            fail("the holds were not booked before the first was to end; --lasts gives them more time")
        set_hold(operator, left)
        filler.book(range(first, min(first + BATCH, holds)))
    filler.close()
    set_hold(operator, 600)


def others(options, load, host, prefix):
    """Whoever books of the other sale, connected and waiting for its word."""
    words = ["--kind", "put", "--sale", "other", "--prefix", prefix, "--rate", options.rate]
    return Load(load, host.port, [*words, "--seconds", options.seconds, "--connections", 64, "--threads", 1])


def latency(seen):
    if seen["broken"] or seen["unanswered"] or seen["granted"] != seen["answered"]:
        fail(f"not all bookings of the other sale were granted: {seen}")
    return {name: value / 1000 for name, value in seen["latency_us"].items()}


def trial(options, binary, load, folder, holds):
    processes = []
    loads = []
    try:
        redis = servers.Redis(folder, "redis")
        processes.append(redis.process)
        url = f"redis://127.0.0.1:{redis.port}"
        sales = (f"ticket={holds},hold=10m", f"other={HUGE}")
        host = servers.Boxoffice(folder, "boxoffice", binary, url, sales, ["--cores", "0", "--no-pin"])
        processes.append(host.process)
        operator, commands = Pipe(host.admin), Commands(redis.port)
        begin = time.time()
        ends_at = begin + options.lasts + options.seconds + holds / 5_000
        fill(host, operator, holds, ends_at)
        filled = time.time() - begin
        [[_, first], [_, last]] = (
            commands.all([["ZRANGE", HOLDS_KEY, at, at, "WITHSCORES"]])[0] for at in (0, -1)
        )
        first, last = float(first) / 1000, float(last) / 1000
        loads.append(others(options, load, host, "quiet"))
        time.sleep(1)
        quiet = latency(loads[0].drive())
        # A connection that asks nothing for its first ten seconds is closed.
        time.sleep(max(0.0, first - 3 - time.time()))
        loads.append(others(options, load, host, "during"))
        if time.time() > first - 0.1:
            fail("holds ended before the quiet time was over; --lasts gives them more time")
        during = {}
        time.sleep(max(0.0, first - time.time()))
        driving = threading.Thread(target=lambda: during.update(loads[1].drive()))
        driving.start()
        time.sleep(max(0.0, last - time.time()))
        group = Pipe(host.port)
        bought = booked_up = None
        tries = 0
        while bought is None or booked_up is None:
            if bought is None:
                tries += 1
                status, said = group.ask("/v1/sales/ticket/bookings/group", "PUT", json.dumps({"quantity": holds}))
                if status == 201:
                    bought = time.time() - last
                elif b"/problems/sold-out" not in said:
                    fail(f"the group was told {status} {said}")
            # What is left is the group that the one buyer holds.
            if booked_up is None and commands.all([["ZCOUNT", HOLDS_KEY, "-inf", round(last * 1000)]])[0] == b"0":
                booked_up = time.time() - last
            if time.time() - last > options.patience:
                fail(f"not all {holds} can be bought after {options.patience} s")
            time.sleep(PROBE)
        driving.join()
        audit = subprocess.run([binary, "audit", "ticket", "--ledger", url], capture_output=True, text=True)
        if audit.returncode != 0:
            fail(f"the audit finds differences:\n{audit.stdout}{audit.stderr}")
        return {
            "bought_s": bought,
            "tries": tries,
            "entered_s": booked_up,
            "quiet_ms": quiet,
            "during_ms": latency(during),
            "filled_s": filled,
            "spread_s": last - first,
        }
    finally:
        for each in loads:
            each.end()
        for process in reversed(processes):
            process.end()


ROWS = (
    ("one booking gets all of them, s after the last has ended", lambda each: each["bought_s"], "{:,.2f}"),
    ("all are entered as expired, s after the last has ended", lambda each: each["entered_s"], "{:,.2f}"),
    ("p99 of the other sale's bookings while all last, ms", lambda each: each["quiet_ms"]["p99"], "{:,.1f}"),
    ("p99 of them from the first end on, ms", lambda each: each["during_ms"]["p99"], "{:,.1f}"),
    ("the slowest of them from the first end on, ms", lambda each: each["during_ms"]["max"], "{:,.1f}"),
)


def summary(facts, options, results):
    whats = list(dict.fromkeys(each["what"] for each in results))
    spread = max(each["spread_s"] for each in results)
    lines = [
        f"# Holds that end at once, {facts['date']}, {facts['cores']} cores",
        "",
        f"{facts['cpu']}, Linux {facts['kernel']}, Redis {facts['redis']}; {options.note or 'release builds'}.",
        "One host of one loop, one Redis, and the load, all on these cores; medians, and in brackets the worst. "
        f"Holds of one ticket each, which are the whole stock, end within {spread:.2f} s. Another sale is booked "
        f"{options.rate:,} times a second, for {options.seconds} s each. `bench/macro/overdue.py` says how; `overdue.jsonl` has every "
        "trial.",
        "",
    ]
    for holds in sorted({each["holds"] for each in results}):
        lines += [f"## {holds:,} holds", "", "| | " + " | ".join(whats) + " |", "| --- |" + " ---: |" * len(whats)]
        of_each = [[each for each in results if (each["holds"], each["what"]) == (holds, what)] for what in whats]
        for name, figure, form in ROWS:
            cells = []
            for some in of_each:
                figures = [figure(each) for each in some]
                cells.append(f"{form.format(statistics.median(figures))} ({form.format(max(figures))})" if figures else "")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines += ["| trials | " + " | ".join(str(len(some)) for some in of_each) + " |", ""]
    return "\n".join(lines)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--holds", type=int, action="append", help="how many end at once; again for each size")
    options.add_argument("--trials", type=int, default=5)
    options.add_argument("--rate", type=int, default=2_000, help="bookings of the other sale a second")
    options.add_argument("--seconds", type=int, default=3, help="for which it is booked, twice")
    options.add_argument("--lasts", type=int, default=5, help="seconds for which holds last beside what booking them takes")
    options.add_argument("--patience", type=int, default=300, help="seconds after which it is given up")
    options.add_argument("--binary", type=pathlib.Path, action="append", help="again for each to compare")
    options.add_argument("--load", type=pathlib.Path, default=ROOT / "target/release/examples/load")
    options.add_argument("--note", help="what is to be said of the binaries")
    options.add_argument("--out", type=pathlib.Path, help="folder to write to instead of bench/runs/<date>-<machine>")
    options = options.parse_args()
    binaries = options.binary or [ROOT / "target/release/boxoffice"]
    for file in [*binaries, options.load]:
        if not file.exists():
            fail(f"{file} is missing; `make bench-overdue` makes it")
    facts = servers.machine()
    out = options.out or servers.runs_folder(facts)
    scratch = ROOT / "target/bench"
    scratch.mkdir(parents=True, exist_ok=True)
    results = []
    # They take turns, so that what changes on the machine meets all of them.
    for number in range(options.trials):
        for holds in options.holds or [40_000, 100_000]:
            for binary in binaries:
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    result = trial(options, binary.resolve(), options.load.resolve(), pathlib.Path(folder), holds)
                results.append({"what": binary.name, "holds": holds, "trial": number, **result})
                print(json.dumps(results[-1]), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "overdue.jsonl", "w", encoding="utf-8") as raw:
        words = ("trials", "rate", "seconds", "note")
        raw.write(json.dumps({**facts, **{word: getattr(options, word) for word in words}}) + "\n")
        raw.writelines(json.dumps(each) + "\n" for each in results)
    text = summary(facts, options, results)
    (out / "overdue.md").write_text(text)
    print(f"\n{text}\nwritten to {out}")


if __name__ == "__main__":
    main()
