#!/usr/bin/env python3
"""Measures boxoffice beside its peers and writes bench/runs/<date>-<machine>/: raw.jsonl, summary.md and charts.

    make bench                                   # builds, then runs this
    make bench-smoke                             # one tiny round of everything, to see that all of it works
    bench/macro/run.py --rounds 3 --only "open loop"   # a part of it

The cases take turns, round after round, each round from another one on, so that a slow minute of a shared machine falls on
all of them. Peers are up all the time; a host that books starts on an empty ledger each time. A run in which other
processes or machines took much of the CPU time is tried again, and the quietest try counts. Figures are medians over the
rounds with their spread; a ratio is the median of the ratios within a round.

One program, bench/load, asks all servers. It shares the cores with them, so that requests a second say as much of it as of
the server; the CPU time a request, of server and Redis, is their own, and its own is told beside it. It says how many
answers it had and how many tickets it was given, and a case fails where that is not what the server's own count says, where
an answer is not what it must be, or where one is missing. A case that fails is told at the end, and the exit status is 1.

The files: servers.py and peer_servers.py start what is measured, stand.py all of it together; cases.py and long_cases.py say
what is measured, measuring.py how; goals.py, report.py and charts.py make the summary. Python's standard library only.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import tempfile
import time

import cases
import charts
import peer_servers
import report
from measuring import OTHERS_PERCENT_MAX, Failed
from servers import ROOT, fail, machine, runs_folder
from stand import Stand

IDLE_SECONDS = 2


def quietest(case, stand, settings, tries, deadline):
    """Runs the case until others leave it alone, a few times at most; gives the try in which they took least."""
    best = None
    for number in range(settings.tries):
        results = case.run(stand, settings)
        disturbed = max((result.get("others_percent", 0) for result in results), default=0)
        tries.append((number, results))
        if best is None or disturbed < best[0]:
            best = disturbed, results
        if disturbed <= OTHERS_PERCENT_MAX or case.rounds_max or time.monotonic() > deadline:
            break
        time.sleep(settings.seconds)
    return best[1]


def tell(number, result):
    if "ready_ms" in result and "answered" not in result:
        words = f"ready after {result['ready_ms']:.0f} ms"
    else:
        words = (
            f"{result['per_second']:10,.0f}/s {result['server_us']:7.2f} us server {result['redis_us'] or 0:6.2f} us Redis "
            f"{result['load_us']:6.2f} us load {result['others_percent']:4.0f} % others"
        )
    print(f"{number} {result['case']:52} {words}", flush=True)


def run_rounds(stand, settings):
    """All rounds; gives the results that count, all tries, and the failures."""
    deadline = time.monotonic() + settings.minutes * 60
    all_cases = [case for case in cases.everything(stand) if settings.only in case.name]
    if not all_cases:
        fail(f"no case has {settings.only!r} in its name")
    if any(case.name.startswith("open loop") for case in all_cases):
        cases.find_peaks(stand, settings)
        print(f"peaks, requests/s: {stand.peaks}", flush=True)
    results, tries, failures = [], [], []
    for number in range(settings.rounds):
        turn = number * 7 % len(all_cases)
        for case in all_cases[turn:] + all_cases[:turn]:
            if case.rounds_max is not None and number >= case.rounds_max:
                continue
            if time.monotonic() > deadline:
                print(f"{settings.minutes} minutes are over in round {number}", flush=True)
                return results, tries, failures
            had = len(tries)
            try:
                counted = quietest(case, stand, settings, tries, deadline)
            except (Failed, SystemExit, OSError, LookupError, ValueError, subprocess.SubprocessError) as problem:
                failures.append({"case": case.name, "round": number, "failed": f"{type(problem).__name__}: {problem}"})
                print(f"{number} {case.name:52} FAILED: {problem}", flush=True)
                continue
            for result in counted:
                result["round"] = number
                results.append(result)
                tell(number, result)
            for _, tried in tries[had:]:
                for result in tried:
                    result["round"] = number
    return results, tries, failures


def idle_calls_per_second(stand):
    """Calls that the hosts make to the Redis without a file while nobody asks: their syncs."""
    before = stand.memory.calls()
    time.sleep(IDLE_SECONDS)
    return (stand.memory.calls() - before) / IDLE_SECONDS


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=2, help="of load, each case, each round")
    options.add_argument("--tries", type=int, default=3, help="of a run that others disturb")
    options.add_argument("--minutes", type=float, default=28, help="after which no other case begins")
    options.add_argument("--only", default="", help="only cases with these words in their name")
    options.add_argument("--smoke", action="store_true", help="one tiny round")
    options.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/boxoffice")
    options.add_argument("--load", type=pathlib.Path, default=ROOT / "target/release/examples/load")
    options.add_argument("--out", type=pathlib.Path, help="folder to write to instead of bench/runs/<date>-<machine>")
    settings = options.parse_args()
    for file in (settings.binary, settings.load):
        if not file.exists():
            fail(f"{file} is missing; `make bench` makes it")
    settings.tickets, settings.requests = 10_000, 1_000_000
    settings.growth_bookings, settings.ledger_bookings = 100_000, 1_000_000
    if settings.smoke:
        settings.rounds, settings.seconds, settings.tries = 1, 0.2, 1
        settings.tickets, settings.requests = 1_000, 10_000
        settings.growth_bookings, settings.ledger_bookings = 2_000, 10_000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    facts = {**machine(), **peer_servers.versions()}
    scratch = ROOT / "target/bench"  # beside the build, on a real disk: /tmp may be memory
    scratch.mkdir(parents=True, exist_ok=True)
    out = settings.out or (scratch / "smoke" if settings.smoke else runs_folder(facts))
    processes = []
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        try:
            stand = Stand(pathlib.Path(folder), settings.binary.resolve(), settings.load.resolve(), processes)
            idle = idle_calls_per_second(stand)
            results, tries, failures = run_rounds(stand, settings)
        finally:
            for process in reversed(processes):
                process.end()

    out.mkdir(parents=True, exist_ok=True)
    facts |= {"rounds": settings.rounds, "seconds": settings.seconds, "idle_calls_per_second": idle, "peaks": stand.peaks}
    with open(out / "raw.jsonl", "w", encoding="utf-8") as raw:
        raw.write(json.dumps(facts) + "\n")
        for number, tried in tries:
            counts = lambda result: any(result is each for each in results)
            raw.writelines(json.dumps({**result, "try": number, "counts": counts(result)}) + "\n" for result in tried)
        raw.writelines(json.dumps(failure) + "\n" for failure in failures)
    text = report.summary(facts, settings, results, tries, failures, idle)
    (out / "summary.md").write_text(text)
    charts.draw(out, results)
    print(f"\n{text}\nwritten to {out}")
    if failures:
        fail(f"{len(failures)} runs failed: {', '.join(dict.fromkeys(each['case'] for each in failures))}")


if __name__ == "__main__":
    main()
