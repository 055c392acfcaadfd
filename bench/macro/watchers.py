#!/usr/bin/env python3
"""Measures what those who watch cost those who buy; writes bench/runs/<date>-<machine>/: watchers.jsonl, watchers.md.

    make bench-watchers                                 # builds, then runs this
    bench/macro/watchers.py --rounds 1 --seconds 1      # a small part of it

A host on a Redis, under full load of refusals or of bookings, by turns without anybody who watches and with 1,000 dashboards
(`GET /v1/events` of the operators' listener). Whoever watches reads on a process of its own, which takes CPU time from the host
on a machine that both share: so what counts is the host's own CPU time a request, and the rate is told beside it.

Python's standard library only.
"""

import argparse
import json
import os
import pathlib
import resource
import select
import signal
import socket
import statistics
import tempfile
import time

import servers
from measuring import measure, words_of
from servers import HUGE, ROOT, fail
from stand import Target

LOADS = {
    "refusals": ({"kind": "buy", "sale": "gone"}, "sold-out"),
    "bookings": ({"kind": "put", "sale": "ticket"}, "granted"),
}
CONNECTIONS = 256


class Watchers:
    """Connections that read events, on a process of its own. `end` gives how many events came, and what the longest pause was."""

    def __init__(self, port, target, count):
        self.told, telling = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.close(self.told)
            watch(port, target, count, telling)
            os._exit(0)
        os.close(telling)
        if os.read(self.told, 1) != b"r":
            fail("those who watch were not let in")

    def end(self):
        os.kill(self.child, signal.SIGTERM)
        said = b""
        while piece := os.read(self.told, 65536):
            said += piece
        os.close(self.told)
        os.waitpid(self.child, 0)
        return json.loads(said)


def watch(port, target, count, telling):
    poll, sockets = select.epoll(), {}
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port), 10)
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n".encode())
        client.setblocking(False)
        sockets[client.fileno()] = client
        poll.register(client.fileno(), select.EPOLLIN)
    seen = dict.fromkeys(sockets, 0)
    last, longest, ended = {}, 0.0, 0
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    is_ready = False
    while not stop:
        for descriptor, _ in poll.poll(0.1):
            try:
                read = sockets[descriptor].recv(262144)
            except BlockingIOError:
                continue
            if not read:
                poll.unregister(descriptor)
                ended += 1
                continue
            now = time.monotonic()
            seen[descriptor] += read.count(b"event:")
            longest = max(longest, now - last.get(descriptor, now)) if is_ready else 0.0
            last[descriptor] = now
        if not is_ready and all(seen.values()):
            is_ready = True
            os.write(telling, b"r")
    told = {"events": sum(seen.values()), "longest_pause_s": longest, "ended": ended}
    os.write(telling, json.dumps(told).encode())


def memory_kb(process):
    status = pathlib.Path(f"/proc/{process.child.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def trial(options, folder, redis, load, count, number):
    redis.command("flushall")
    host = servers.Boxoffice(folder, f"host-{number}", options.binary, f"redis://127.0.0.1:{redis.port}/0", (f"ticket={HUGE}", "gone=1"))
    watchers = None
    try:
        before = memory_kb(host.process)
        if count:
            watchers = Watchers(host.admin, "/v1/events?sale=ticket", count)
        words, expect = LOADS[load]
        words = words_of(CONNECTIONS, seconds=options.seconds, **words, **{"warm-up": CONNECTIONS})
        if load == "bookings":
            words += ["--prefix", f"t{number}"]
        seen = measure(options.load, Target(host, [redis]), words, expect)
        seen["memory_kb"] = memory_kb(host.process) - before
        seen["watched"] = watchers.end() if watchers else None
        watchers = None
        return seen
    finally:
        if watchers:
            watchers.end()
        host.process.end()


def summary(facts, options, results):
    lines = [
        "# What those who watch cost those who buy\n",
        f"{facts['cpu']}, Linux {facts['kernel']}; boxoffice {facts['commit']}, Redis {facts['redis']}. {CONNECTIONS} connections at full load; "
        f"medians of {options.rounds} rounds of {options.seconds} s in which both take turns. {options.note or ''}\n",
        "| load | who watches | requests/s | host's CPU time, us a request | times without | events | longest pause of one, s | memory, MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for load in LOADS:
        of = {count: [each for each in results if (each["load"], each["count"]) == (load, count)] for count in (0, options.dashboards)}
        ratio = statistics.median(
            other["server_us"] / one["server_us"] for one, other in zip(of[0], of[options.dashboards], strict=True)
        )
        for count, mine in of.items():
            rate, cpu, memory = (statistics.median(each[name] for each in mine) for name in ("per_second", "server_us", "memory_kb"))
            watched = [each["watched"] for each in mine if each["watched"]]
            events = f"{statistics.median(each['events'] for each in watched):,.0f}" if watched else "-"
            pause = f"{max(each['longest_pause_s'] for each in watched):.1f}" if watched else "-"
            who = f"{count:,} dashboards" if count else "nobody"
            times = f"{ratio:.3f}" if count else "1"
            lines.append(f"| {load} | {who} | {rate:,.0f} | {cpu:.2f} | {times} | {events} | {pause} | {memory / 1024:.1f} |")
    return "\n".join(lines) + "\n"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=5)
    options.add_argument("--dashboards", type=int, default=1000)
    options.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/boxoffice")
    options.add_argument("--load", type=pathlib.Path, default=ROOT / "target/release/examples/load")
    options.add_argument("--note", help="what is to be said of the run")
    options.add_argument("--out", type=pathlib.Path, help="folder to write to instead of bench/runs/<date>-<machine>")
    options = options.parse_args()
    for file in (options.binary, options.load):
        if not file.exists():
            fail(f"{file} is missing; `make bench-watchers` makes it")
    options.binary, options.load = options.binary.resolve(), options.load.resolve()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    facts = servers.machine()
    out = options.out or servers.runs_folder(facts)
    scratch = ROOT / "target/bench"
    scratch.mkdir(parents=True, exist_ok=True)
    results = []
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        folder = pathlib.Path(folder)
        redis = servers.Redis(folder, "redis", "--appendonly", "no")
        try:
            for number in range(options.rounds):
                for load in LOADS:
                    for count in (0, options.dashboards):
                        seen = trial(options, folder, redis, load, count, len(results))
                        results.append({"load": load, "count": count, "round": number, **seen})
                        print(f"{load}, {count}: {seen['per_second']:,.0f}/s, {seen['server_us']:.2f} us, {seen['watched']}", flush=True)
        finally:
            redis.process.end()
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "watchers.jsonl", "w", encoding="utf-8") as raw:
        words = ("rounds", "seconds", "dashboards", "note")
        raw.write(json.dumps({**facts, **{word: getattr(options, word) for word in words}}) + "\n")
        raw.writelines(json.dumps(each) + "\n" for each in results)
    text = summary(facts, options, results)
    (out / "watchers.md").write_text(text)
    print(f"\n{text}\nwritten to {out}")


if __name__ == "__main__":
    main()
