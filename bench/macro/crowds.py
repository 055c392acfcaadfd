#!/usr/bin/env python3
"""Measures what crowds of connections that do little cost the others; writes bench/runs/<date>-<machine>/: crowds.jsonl,
crowds.md.

    make bench-crowds                           # builds, then runs this
    bench/macro/crowds.py --rounds 2 --idle 5000      # a small part of it
    bench/macro/crowds.py --only unread trickle       # some of the crowds

Crowds of `bench/load` over loopback, on a host with a SQLite ledger and a sale that is sold out:

- connections that dribble a byte of a request head each second. Beside them other clients ask at a fixed rate; their
  latency counts from when a request was to leave. Rounds with and without the crowd take turns.
- idle connections that were answered once and are kept alive. Beside them 100 clients ask as fast as they are answered,
  in turns with and without the crowd.
- connections that ask without end, 3 MB/s all together, and do not read what they are answered (`unread`), or a byte a
  second of it (`trickle`). Beside them other clients ask at the fixed rate, none of which may be refused. The host has one
  loop, which may hold 20 MiB for all its connections; how much it does hold is looked at ten times a second.

The crowd's clients run when a core has nothing else to do (SCHED_IDLE): in the open they have machines of their own, and
what is asked is what they cost through the server, not what they take from the cores of the others. The report says how
many bytes they sent all the same.

Memory is the server's resident set, after the crowd came less before, on a fresh host. Where a process may not open as many
files as the crowd has connections, the crowd is dealt to as many hosts as it takes; all of it is there at once, and the
other clients ask the first host.

Python's standard library only.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import resource
import statistics
import re
import subprocess
import tempfile
import threading
import time

import servers
from servers import ROOT, fail

RESERVED = 200  # files of a host or a load that are no connections of the crowd
RATE = 10_000  # requests a second of the other clients beside the dribbling crowd
ACTIVE = 100  # other clients
FLOODING = ("unread", "trickle")
FLOOD_BYTES = 3_000_000  # of requests a second, of all who do not read
BUFFERED_MIB = 20  # what a loop may hold
FLOOD_OPTIONS = ("--cores", "0", "--limit", f"buffered-bytes={BUFFERED_MIB}MiB")


class Crowd:
    """Connections of one kind to one host, there until `end`."""

    def __init__(self, load, kind, port, connections, first):
        words = ["flood", "--bytes-per-second", FLOOD_BYTES] if kind in FLOODING else [kind, "--first", first]
        words += ["--reads"] if kind == "trickle" else []
        self.child = subprocess.Popen(
            [str(word) for word in (load, *words, "--to", f"127.0.0.1:{port}", "--connections", connections, "--sale", "gone")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)),
        )

    def wait_until_there(self):
        if self.child.stdout.readline().strip() != "ready":
            fail(f"a crowd ended with status {self.child.wait()}")

    def end(self):
        report = self.child.communicate("", timeout=60)[0]
        return json.loads(report)


def drive(load, port, seconds, *words):
    command = [load, "drive", "--to", f"127.0.0.1:{port}", "--sale", "gone", "--connections", ACTIVE, "--seconds", seconds]
    done = subprocess.run([str(word) for word in (*command, *words)], check=True, capture_output=True, text=True)
    seen = json.loads(done.stdout)
    if seen["broken"] or seen["unanswered"] or seen["sold_out"] != seen["answered"]:
        fail(f"the other clients were harmed: {seen}")
    return seen


class Buffered:
    """Looks again and again at how many bytes the host holds for its connections."""

    def __init__(self, port):
        self.port, self.most, self.cut, self.over = port, 0, 0, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.over.wait(0.1):
            text = servers.get(self.port, "/metrics").decode()
            held = sum(float(value) for value in re.findall(r"^boxoffice_buffered_bytes(?:\{.*\})? (\S+)", text, re.M))
            self.most = max(self.most, held)
            self.cut = float(re.search(r'^boxoffice_connections_cut_total\{reason="unread"\} (\S+)', text, re.M)[1])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def resident(process):
    """Bytes of the process in memory."""
    status = pathlib.Path(f"/proc/{process.child.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024


def measured(load, host, seconds, words):
    before = sum(host.process.cpu())
    seen = drive(load, host.port, seconds, *words)
    seen["server_us"] = (sum(host.process.cpu()) - before) / seen["answered"] * 1e6
    return seen


def compare(options, load, hosts, kind, connections, words, results):
    """Rounds without and with the crowd in turn, the first one with it on fresh hosts."""
    shares = [connections // len(hosts) + (number < connections % len(hosts)) for number in range(len(hosts))]
    for host in hosts:
        drive(load, host.port, 1)
    rest = [resident(host.process) for host in hosts]
    for number in range(options.rounds):
        for crowded in (False, True) if number % 2 == 0 else (True, False):
            crowds, memory = [], None
            if crowded:
                # From other addresses each time: a closed connection keeps its port for a minute.
                firsts = [number * connections + sum(shares[:index]) for index in range(len(hosts))]
                crowds = [Crowd(load, kind, host.port, *each) for host, *each in zip(hosts, shares, firsts)]
                for crowd in crowds:
                    crowd.wait_until_there()
                if kind == "dribble" or kind in FLOODING:
                    time.sleep(2)  # by now each holds a part of a head, or what it was answered
                memory = sum(map(resident, (host.process for host in hosts))) - sum(rest)
            with contextlib.ExitStack() as stack:
                buffered = stack.enter_context(Buffered(hosts[0].admin)) if kind in FLOODING and crowded else None
                seen = measured(load, hosts[0], options.seconds, words)
            reports = [crowd.end() for crowd in crowds]
            if buffered:
                seen["buffered_bytes_most"], seen["cut"] = buffered.most, buffered.cut
            time.sleep(1)  # the hosts see that the crowd is gone
            result = {"kind": kind, "round": number, "crowded": crowded, **seen, "crowds": reports}
            if memory is not None and not any(each["kind"] == kind and each["crowded"] for each in results):
                result["bytes_a_connection"] = memory / connections
            results.append(result)
            print(f"{kind} {number} {'with' if crowded else 'without'}: {seen['per_second']:,.0f}/s, p99 "
                  f"{seen['latency_us']['p99']:.0f} us, {seen['server_us']:.2f} us server; {reports}", flush=True)


def figures(results, kind, crowded, figure):
    return [figure(each) for each in results if each["kind"] == kind and each["crowded"] == crowded]


def ratio(results, kind, figure):
    ratios = [
        more / less
        for more, less in zip(figures(results, kind, True, figure), figures(results, kind, False, figure))
    ]
    return f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f}"


def p99(result):
    return result["latency_us"]["p99"]


def rate(result):
    return result["per_second"]


def server(result):
    return result["server_us"]


def summary(facts, options, hosts, results):
    kinds = {each["kind"] for each in results}
    lines = [
        f"# Crowds, {facts['date']}, {facts['cores']} cores",
        "",
        f"{facts['cpu']}, Linux {facts['kernel']}; boxoffice {facts['commit']}.",
        f"{options.rounds} rounds of {options.seconds} s with and without each crowd; the load on the same cores. "
        "`bench/macro/crowds.py` says how; `crowds.jsonl` has every run. Ratios are with the crowd by without, in the same round.",
    ]
    if "dribble" in kinds:
        lines += summary_of_dribbling(options, results)
    if "idle" in kinds:
        lines += summary_of_idle(options, hosts, results)
    for kind in FLOODING:
        if kind in kinds:
            lines += summary_of_flood(options, results, kind)
    return "\n".join(lines) + "\n"


def median(results, kind, crowded, figure):
    return statistics.median(figures(results, kind, crowded, figure))


def memory_of(results, kind):
    return next(each["bytes_a_connection"] for each in results if each["kind"] == kind and "bytes_a_connection" in each)


def summary_of_dribbling(options, results):
    reports = [crowd for each in results if each["kind"] == "dribble" for crowd in each["crowds"]]
    cuts = [crowd["cut_after_ms"] for crowd in reports if crowd["cuts"]]
    answers = {}
    for crowd in reports:
        for status, count in crowd["answers"].items():
            answers[status] = answers.get(status, 0) + count
    return [
        "",
        f"{options.dribbling:,} connections that dribble a byte a second, beside {ACTIVE} that ask {RATE:,} times a second:",
        "",
        "| | without | with | ratio, median | least to most | aim |",
        "| --- | ---: | ---: | ---: | --- | --- |",
        f"| p99 of the others, us | {median(results, 'dribble', False, p99):,.0f} | {median(results, 'dribble', True, p99):,.0f} "
        f"| {ratio(results, 'dribble', p99)} | at most 2 |",
        f"| server CPU a request of the others, the crowd's included, us | {median(results, 'dribble', False, server):.2f} "
        f"| {median(results, 'dribble', True, server):.2f} | {ratio(results, 'dribble', server)} | |",
        "",
        f"The crowd sent {statistics.median(crowd['bytes'] / crowd['seconds'] for crowd in reports):,.0f} bytes a second, "
        "its first ten seconds, in which it begins, included. "
        f"Resident memory a dribbling connection: {memory_of(results, 'dribble'):,.0f} bytes (aim: at most 2,048). "
        f"Cut: {sum(crowd['cuts'] for crowd in reports):,} connections, {min((cut['least'] for cut in cuts), default=0):,} to "
        f"{max((cut['most'] for cut in cuts), default=0):,} ms after their first byte (limit: 10,000), answered "
        f"{', '.join(f'{status}: {count:,}' for status, count in sorted(answers.items()))}; without an answer "
        f"{sum(crowd['without_answer'] for crowd in reports):,}.",
    ]


def summary_of_idle(options, hosts, results):
    idle = [crowd for each in results if each["kind"] == "idle" for crowd in each["crowds"]]
    lines = [
        "",
        f"{options.idle:,} idle connections on {hosts} host{'s' if hosts > 1 else ''}, beside {ACTIVE} that ask as fast as they can:",
        "",
        "| | without | with | ratio, median | least to most | aim |",
        "| --- | ---: | ---: | ---: | --- | --- |",
        f"| requests/s of the others | {median(results, 'idle', False, rate):,.0f} | {median(results, 'idle', True, rate):,.0f} "
        f"| {ratio(results, 'idle', rate)} | at least 0.9 |",
        f"| server CPU a request, us | {median(results, 'idle', False, server):.2f} "
        f"| {median(results, 'idle', True, server):.2f} | {ratio(results, 'idle', server)} | |",
        "",
        f"Resident memory an idle connection: {memory_of(results, 'idle'):,.0f} bytes (aim: at most 1,024). "
        f"Closed or refused by a host: {sum(crowd['closed'] + crowd['refused'] for crowd in idle)}.",
    ]
    if hosts > 1:
        lines += ["", f"A process may open {open_files():,} files here, which is why the idle crowd is dealt to {hosts} hosts."]
    return lines


def summary_of_flood(options, results, kind):
    rounds = [each for each in results if each["kind"] == kind and each["crowded"]]
    crowds = [crowd for each in rounds for crowd in each["crowds"]]
    reads = {"unread": "do not read", "trickle": "read a byte a second"}[kind]
    return [
        "",
        f"{options.flooding:,} connections that ask without end and {reads}, beside {ACTIVE} that ask {RATE:,} times a second; "
        f"one loop, which may hold {BUFFERED_MIB} MiB:",
        "",
        "| | without | with | ratio, median | least to most | aim |",
        "| --- | ---: | ---: | ---: | --- | --- |",
        f"| p99 of the others, us | {median(results, kind, False, p99):,.0f} | {median(results, kind, True, p99):,.0f} "
        f"| {ratio(results, kind, p99)} | at most 2 |",
        "",
        f"The crowd sent {statistics.median(crowd['bytes'] / crowd['seconds'] for crowd in crowds):,.0f} bytes a second. "
        f"Held for all connections: at most {max(each['buffered_bytes_most'] for each in rounds) / 2**20:.1f} MiB. Of the crowd "
        f"{sum(crowd['cuts'] for crowd in crowds):,} connections were ended, of the others none was ended or refused.",
    ]


def open_files():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=12, help="of load, each round; more than the limit for a head")
    options.add_argument("--dribbling", type=int, default=10_000)
    options.add_argument("--idle", type=int, default=50_000)
    options.add_argument("--flooding", type=int, default=800)
    crowds = ["dribble", "idle", *FLOODING]
    options.add_argument("--only", nargs="+", default=crowds, choices=crowds, help="only these crowds")
    options.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/boxoffice")
    options.add_argument("--load", type=pathlib.Path, default=ROOT / "target/release/examples/load")
    options.add_argument("--out", type=pathlib.Path, help="folder to write to instead of bench/runs/<date>-<machine>")
    options = options.parse_args()
    for file in (options.binary, options.load):
        if not file.exists():
            fail(f"{file} is missing; `make bench-crowds` makes it")
    limit = open_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if limit < options.dribbling + RESERVED:
        fail(f"takes {options.dribbling + RESERVED} open files, and {limit} are allowed: raise the limit (ulimit -Hn)")
    count = math.ceil(options.idle / (limit - RESERVED))

    facts = servers.machine()
    out = options.out or servers.runs_folder(facts)
    scratch = ROOT / "target/bench"
    scratch.mkdir(parents=True, exist_ok=True)
    results = []
    for kind, hosts, connections, words, settings in (
        ("dribble", 1, options.dribbling, ["--rate", RATE], ()),
        ("idle", count, options.idle, [], ()),
        *((kind, 1, options.flooding, ["--rate", RATE], FLOOD_OPTIONS) for kind in FLOODING),
    ):
        if kind not in options.only:
            continue
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            processes = []
            try:
                each = []
                for number in range(hosts):
                    host = servers.Boxoffice(
                        pathlib.Path(folder),
                        f"boxoffice-{number}",
                        options.binary.resolve(),
                        "sqlite:{home}/boxoffice.db",
                        options=settings,
                    )
                    processes.append(host.process)
                    each.append(host)
                compare(options, options.load.resolve(), each, kind, connections, words, results)
            finally:
                for process in reversed(processes):
                    process.end()

    out.mkdir(parents=True, exist_ok=True)
    with open(out / "crowds.jsonl", "w", encoding="utf-8") as raw:
        raw.write(json.dumps({**facts, "rounds": options.rounds, "seconds": options.seconds, "hosts": count}) + "\n")
        raw.writelines(json.dumps(each) + "\n" for each in results)
    text = summary(facts, options, count, results)
    (out / "crowds.md").write_text(text)
    print(f"\n{text}\nwritten to {out}")


if __name__ == "__main__":
    main()
