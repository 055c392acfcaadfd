#!/usr/bin/env python3
"""Measures what a booking takes in each ledger and writes bench/runs/<date>-<machine>/: bytes.jsonl and bytes.md.

    make bench-bytes                       # builds, then runs this
    bench/macro/bytes.py --bookings 100000       # quicker; hash tables are filled to another part then

How: for each case a new ledger and a new host, and a crowd of 8 connections that books one ticket a request, by PUT
with UUIDv7 ids, each for a buyer of its own of 9 characters. In Redis it is `used_memory` after less before, and the
size of the append-only file, as it was written and as BGREWRITEAOF leaves it. In SQLite it is the size of the file
once the host has ended. Everything is in it: record, hold, count of the buyer, log.

Python's standard library only.
"""

import argparse
import itertools
import json
import pathlib
import random
import re
import socket
import subprocess
import tempfile
import time

import servers
from servers import ROOT, Process, Redis, fail, get

CONNECTIONS = 8
DEPTH = 64  # requests of one connection on the way
BUYER_LIMIT = ",per-buyer=4"
HOLD = ",hold=10h"  # longer than the run: what is held stays held


class Host:
    def __init__(self, folder, binary, ledger, terms):
        arguments = [binary, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ledger", ledger]
        self.process = Process([*arguments, "--sale", f"ticket={servers.HUGE}{terms}"], folder, "boxoffice", speaks=True)
        lines = self.process.lines_until("ready")
        self.port, self.admin = (
            int(re.search(r":(\d+)", next(line for line in lines if line.startswith(words)))[1])
            for words in ("listening on ", "admin on ")
        )

    def travelled(self):
        """Entries and calls to the ledger so far; a sync is a call too, 5 a second."""
        metrics = get(self.admin, "/metrics").decode()
        of_loops = lambda name: re.findall(rf"^boxoffice_ledger_{name}_total{{\S*}} (\S+)", metrics, re.M)
        return [sum(map(float, of_loops(name))) for name in ("entries", "calls")]


def ids(count):
    """UUIDv7, a hundred in each millisecond; the same ones each time."""
    dice = random.Random(1)
    for n in range(count):
        number = (1_800_000_000_000 + n // 100) << 80 | dice.getrandbits(80)
        number = number & ~(0xF << 76) | 7 << 76
        text = f"{number & ~(3 << 62) | 2 << 62:032x}"
        yield f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def put(buyers):
    def request(n, id):
        body = f'{{"buyer":"u-{n:07d}"}}' if buyers else "{}"
        return f"PUT /v1/sales/ticket/bookings/{id} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}"

    return request


def confirm(n, id):
    return f"POST /v1/sales/ticket/bookings/{id}/confirm HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


def crowd(port, count, request, status, connections=CONNECTIONS, depth=DEPTH):
    """Sends `count` requests and fails unless each is answered with that status."""
    clients = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(connections)]
    requests = (request(n, id).encode() for n, id in enumerate(ids(count)))
    left = count
    while left:
        asked = []
        for client in clients:
            batch = list(itertools.islice(requests, depth))
            client.sendall(b"".join(batch))
            asked.append(len(batch))
        for client, expected in zip(clients, asked):
            answers = b""
            # Bodies are JSON objects, without an empty line in them.
            while expected and not (answers.count(b"\r\n\r\n") == expected and answers.rstrip().endswith(b"}")):
                answers += client.recv(1 << 20) or fail("boxoffice hung up")
            if answers.count(b"HTTP/1.1 %d " % status) != expected:
                fail(f"not every answer was {status}: {answers[:300]}")
            left -= expected
    for client in clients:
        client.close()


def in_redis(folder, options, result, terms, buyers, paid, alone):
    server = Redis(folder, "redis", "--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
    yield server.process
    ledger = f"redis://127.0.0.1:{server.port}/0"
    host = Host(folder, options.binary, ledger, terms)
    yield host.process
    used = lambda: int(re.search(r"used_memory:(\d+)", server.command("info", "memory"))[1])
    on_disk = lambda: sum(file.stat().st_size for file in (folder / "redis").rglob("*") if file.is_file())
    count = result["bookings"]

    def measure(state):
        time.sleep(2)  # the host's connections and Redis' buffers come to rest
        after = {key: server.command("memory", "usage", f"bx:{{ticket}}:{key}", "samples", 0) for key in KEYS}
        result[f"{state}_bytes"] = (used() - before) / count
        result[f"{state}_keys"] = {key: int(value or 0) / count for key, value in after.items()}

    time.sleep(2)
    before, aof_before = used(), on_disk()
    crowd(host.port, count, put(buyers), 201, *((1, 1) if alone else ()))
    entries, calls = host.travelled()
    result["entries_per_call"] = entries / calls
    measure("booked")
    result["aof_bytes"] = (on_disk() - aof_before) / count
    server.command("bgrewriteaof")
    while "aof_rewrite_in_progress:1" in (info := server.command("info", "persistence")) or "scheduled:1" in info:
        time.sleep(0.2)
    time.sleep(2)  # the old file is removed behind its back
    result["aof_rewritten_bytes"] = (on_disk() - aof_before) / count
    if paid:
        crowd(host.port, count, confirm, 200)
        measure("paid")
        server.command("xgroup", "create", "bx:{ticket}:log", "done", "$")
        subprocess.run([options.binary, "sale", "trim", "ticket", "--ledger", ledger], check=True, capture_output=True)
        measure("trimmed")


def in_sqlite(folder, options, result, terms, buyers, paid, alone):
    file = folder / "boxoffice.db"
    host = Host(folder, options.binary, f"sqlite:{file}", terms)
    yield host.process
    crowd(host.port, result["bookings"], put(buyers), 201)
    entries, calls = host.travelled()
    result["entries_per_call"] = entries / calls
    host.process.end()
    left_over = file.with_name(f"{file.name}-wal")
    if left_over.exists() and left_over.stat().st_size:
        fail("the host left a write-ahead log behind")
    result["booked_bytes"] = file.stat().st_size / result["bookings"]


KEYS = ("bookings", "holds", "buyers", "log")

# Name, ledger, terms of the sale, whether with buyers, whether paid afterwards, one request at a time, part of the bookings.
CASES = (
    ("Redis, confirmed", in_redis, BUYER_LIMIT, True, False, False, 1),
    ("Redis, held", in_redis, HOLD + BUYER_LIMIT, True, True, False, 1),
    ("Redis, confirmed, no limit", in_redis, "", True, False, False, 1),
    ("Redis, confirmed, no buyers", in_redis, "", False, False, False, 1),
    ("Redis, held, one request at a time", in_redis, HOLD + BUYER_LIMIT, True, False, True, 10),
    ("SQLite, confirmed", in_sqlite, BUYER_LIMIT, True, False, False, 1),
    ("SQLite, held", in_sqlite, HOLD + BUYER_LIMIT, True, False, False, 1),
)

AIMS = {"Redis, confirmed": "at most 200", "Redis, held": "at most 300"}


def summary(facts, results):
    figure = lambda number: "" if number is None else f"{number:,.1f}"
    lines = [
        f"# Bytes a booking, {facts['date']}",
        "",
        f"{facts['cpu']}, Linux {facts['kernel']}; boxoffice {facts['commit']}, Redis {facts['redis']} "
        f"({facts['allocator']}). `bench/macro/bytes.py` says how; `bytes.jsonl` has every figure.",
        "",
        "Each booking: a UUIDv7 as id, one ticket, a buyer of its own whose name has 9 characters.",
        "",
        "| case | bookings | entries a call | bytes a booking | aim | AOF as written | AOF rewritten |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for result in results:
        lines.append(
            f"| {result['case']} | {result['bookings']:,} | {result['entries_per_call']:.0f} "
            f"| {result['booked_bytes']:,.1f} | {AIMS.get(result['case'], '')} | {figure(result.get('aof_bytes'))} "
            f"| {figure(result.get('aof_rewritten_bytes'))} |"
        )
        for state, words in (("paid", "then paid"), ("trimmed", "then paid, the log trimmed")):
            if f"{state}_bytes" in result:
                lines.append(f"| {result['case']}, {words} | {result['bookings']:,} | | {result[f'{state}_bytes']:,.1f} | | | |")
    lines += [
        "",
        "Where they are, by `MEMORY USAGE` (less than `used_memory` by what the allocator rounds up):",
        "",
        "| case | " + " | ".join(KEYS) + " |",
        "| --- | " + " | ".join("---:" for _ in KEYS) + " |",
    ]
    for result in results:
        for state, words in (("booked", ""), ("paid", ", then paid"), ("trimmed", ", then paid, the log trimmed")):
            if keys := result.get(f"{state}_keys"):
                lines.append(f"| {result['case']}{words} | " + " | ".join(f"{keys[key]:.1f}" for key in KEYS) + " |")
    return "\n".join(lines) + "\n"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bookings", type=int, default=1_000_000)
    options.add_argument("--only", default="", help="only cases with this word in their name")
    options.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/boxoffice")
    options.add_argument("--out", type=pathlib.Path, help="folder to write to instead of bench/runs/<date>-<machine>")
    options = options.parse_args()
    if not options.binary.exists():
        fail(f"{options.binary} is missing; `cargo build --release` makes it")
    options.binary = options.binary.resolve()

    facts = servers.machine()
    out = options.out or servers.runs_folder(facts)
    scratch = ROOT / "target/bench"
    scratch.mkdir(parents=True, exist_ok=True)
    results = []
    for name, measure, terms, buyers, paid, alone, part in CASES:
        if options.only not in name:
            continue
        result = {"case": name, "bookings": options.bookings // part}
        processes: list[Process] = []
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            try:
                for process in measure(pathlib.Path(folder), options, result, terms, buyers, paid, alone):
                    processes.append(process)
            finally:
                for process in reversed(processes):
                    process.end()
        results.append(result)
        print(f"{name:40} {result['booked_bytes']:8.1f} bytes a booking", flush=True)

    facts["allocator"] = allocator()
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "bytes.jsonl", "w") as raw:
        raw.writelines(json.dumps(record) + "\n" for record in (facts, *results))
    (out / "bytes.md").write_text(summary(facts, results))
    print(f"\n{summary(facts, results)}\nwritten to {out}")


def allocator():
    version = servers.command_line(servers.find("redis-server"), "--version")
    return re.search(r"malloc=(\S+)", version)[1]


if __name__ == "__main__":
    main()
