#!/usr/bin/env python3
"""Draws where the CPU time of a loaded host goes, as a flame graph for each of its threads; writes target/flamegraph/.

    make flamegraph                                   # builds, then runs this: sold-out refusals, SQLite
    make flamegraph WORKLOAD=booking LEDGER=redis     # bookings with ids of their own, on a Redis of its own

A workload is what `bench/load` asks for:

    soldout     GET /buy of a sale that is sold out, 100 connections
    pipelined   the same, 16 requests at a time
    buy         GET /buy of a sale with tickets
    booking     PUT of bookings with fresh ids
    mixed       bookings, of which half are confirmed and a quarter is cancelled

perf interrupts the threads and notes their stacks, of user space and kernel; `bench/profile/flame.rs` draws. The stacks are
followed by the unwind tables, not by frame pointers, which the C library has none of: whoever called it would be missing.
Where perf cannot read the processor's counters, as in most virtual machines, it uses a timer: then what the kernel does
with interrupts off is counted for where it turns them on again.

Python's standard library only.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "macro"))
from servers import ROOT, Boxoffice, Redis, fail, find

SAMPLES_PER_SECOND = 999  # not a round number, lest it keep step with what it samples
STACK_BYTES = 24576  # noted with each sample: more than the deepest stack of a loop, a request's fields included
WARM_SECONDS = 2

WORKLOADS = {
    "soldout": ["--kind", "buy", "--sale", "gone"],
    "pipelined": ["--kind", "buy", "--sale", "gone", "--pipeline", "16"],
    "buy": ["--kind", "buy", "--sale", "ticket"],
    "booking": ["--kind", "put", "--sale", "ticket"],
    "mixed": ["--kind", "mix", "--sale", "ticket"],
}


def run(words, **more):
    done = subprocess.run([str(word) for word in words], text=True, capture_output=True, **more)
    if done.returncode != 0:
        fail(f"{pathlib.Path(words[0]).name} {words[1]} failed: {done.stderr.strip()}")
    return done.stdout


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workload", choices=WORKLOADS, default="soldout")
    options.add_argument("--ledger", choices=["sqlite", "redis"], default="sqlite")
    options.add_argument("--seconds", type=int, default=10)
    options.add_argument("--connections", type=int, default=100)
    options.add_argument("--build", type=pathlib.Path, default=ROOT / "target/profiling/profiling", help="where the binaries are")
    options.add_argument("--out", type=pathlib.Path, help="folder to write to instead of target/flamegraph/WORKLOAD-LEDGER")
    options = options.parse_args()
    build = options.build.resolve()
    binary, load, flame = build / "boxoffice", build / "examples/load", build / "examples/flame"
    for file in (binary, load, flame):
        if not file.exists():
            fail(f"{file} is missing; `make flamegraph` makes it")
    perf = find("perf")
    out = (options.out or ROOT / "target/flamegraph" / f"{options.workload}-{options.ledger}").resolve()
    if out.exists():
        shutil.rmtree(out)

    scratch = ROOT / "target/bench"  # beside the build, on a real disk: /tmp may be memory
    scratch.mkdir(parents=True, exist_ok=True)
    processes = []
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        folder = pathlib.Path(folder)
        try:
            ledger = "sqlite:{home}/boxoffice.db"
            if options.ledger == "redis":
                redis = Redis(folder, "redis")
                processes.append(redis.process)
                ledger = f"redis://127.0.0.1:{redis.port}/0"
            host = Boxoffice(folder, "boxoffice", binary, ledger)
            processes.append(host.process)
            address = f"127.0.0.1:{host.port}"
            ask = [load, "drive", "--to", address, *WORKLOADS[options.workload], "--connections", options.connections]
            run([*ask, "--seconds", WARM_SECONDS, "--prefix", "warm"])
            # A second longer at both ends than what is recorded.
            words = [str(word) for word in (*ask, "--seconds", options.seconds + 2)]
            driving = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            try:
                time.sleep(1)
                data = folder / "perf.data"
                ways = ["--call-graph", f"dwarf,{STACK_BYTES}", "-F", SAMPLES_PER_SECOND]
                record = ["record", "--quiet", *ways, "-p", host.process.child.pid, "-o", data]
                run([perf, *record, "--", "sleep", options.seconds])
                report = driving.communicate(timeout=60)[0]
            finally:
                if driving.poll() is None:
                    driving.kill()
                    driving.wait()
            seen = json.loads(report)
            event = run([perf, "evlist", "-i", data]).split("\n")[0].split(":")[0]
            what = f"{options.workload}, {options.ledger}, {seen['per_second']:,.0f}/s, {options.seconds} s of {event}"
            script = [perf, "script", "-i", data, "--no-inline", "-F", "comm,tid,ip,sym,dso"]
            with subprocess.Popen([str(word) for word in script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as samples:
                words = ["--binary", binary, "--title", f"boxoffice: {what}", "--out", out]
                run([flame, *words], stdin=samples.stdout)
        finally:
            for process in reversed(processes):
                process.end()
    if seen["broken"] or seen["unanswered"] or (options.workload in ("soldout", "pipelined") and seen["granted"]):
        fail(f"the load was not what it should have been: {report}")
    print(f"{what}\nwritten to {out.relative_to(ROOT) if out.is_relative_to(ROOT) else out}:")
    for file in sorted(out.iterdir()):
        print(f"  {file.name}")


if __name__ == "__main__":
    main()
