#!/usr/bin/env python3
"""Runs the test programs again and again, on a quiet machine, a loaded one and one core, and tells which tests fail at times.

    make flaky                                                  # every program 20 times in each setting: hours
    make flaky RUNS=5 SUITES="integration wire" SETTINGS="loaded"
    make flaky RUNS=50 TESTS="durability outages"               # tests whose names contain one of these words

The settings: `quiet` leaves the machine as it is; `loaded` has as many processes beside the tests as there are cores, each
of which does nothing but use a core; `one-core` lets the tests and all that they start use the last core alone.

A run fails where its program does, where it takes longer than TIMEOUT seconds (then all of it is ended), and where a server
that it started is still there when it has ended. Its output is kept in target/flaky/, which is emptied at the start.

Exit status: 0 if no run failed, 1 if one did, 2 if the words mean nothing. Python's standard library only.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEPT = ROOT / "target/flaky"
# What cargo is told to build, and what the program is told to run of it.
SUITES = {"unit": ["--lib"], "loom": ["--lib"]} | {
    name: ["--test", name]
    for name in ("allocations", "conformance", "faults", "fuzz", "integration", "scale", "scripts", "sim", "wire")
}
LOOM_TESTS = "loom_tests"
SETTINGS = ("quiet", "loaded", "one-core")
# Words of ours that mean something else to a test program, or to a make that one starts.
NOT_PASSED_ON = ("RUNS", "SUITES", "SETTINGS", "TESTS", "TIMEOUT", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")
GRACE = 10  # seconds until servers that were told to end are gone
# libtest, tests/sim and tests/faults: `test a::b ... FAILED`, `fault disk full ... FAILED, see above`.
FAILED = re.compile(r"^(?:test|fault) (.+?) \.\.\. FAILED", re.M)
# At the end of libtest's output once more, where nothing that a server said can be in between.
FAILURES = re.compile(r"^failures:\n((?:    \S+\n)+)\ntest result: FAILED", re.M)
ENDED = re.compile(r"^test (\S+) \.\.\. (?:ok|FAILED)", re.M)
# One of many at a time, and the only one: of that the line has only begun.
BEGUN = re.compile(r"^test (\S+) (?:has been running for over|\.\.\. *\Z)", re.M)


def fail(words):
    print(f"flaky: {words}", file=sys.stderr)
    sys.exit(2)


def environment():
    return {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}


def build(suites):
    """Builds the programs of these suites; gives the path of each."""
    programs = {}
    common = [name for name in suites if name != "loom"]
    loom = environment()
    loom |= {"RUSTFLAGS": f"{loom.get('RUSTFLAGS', '')} --cfg loom", "CARGO_TARGET_DIR": "target/loom"}
    for names, variables in ((common, environment()), (["loom"] if "loom" in suites else [], loom)):
        if not names:
            continue
        profile = "loom" if names == ["loom"] else "quick"
        command = ["cargo", "test", "--locked", "--profile", profile, "--no-run", "--message-format", "json-render-diagnostics"]
        command += [word for name in names for word in SUITES[name]]
        built = subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)
        if built.returncode:
            fail(f"the tests do not build, see above: {' '.join(command)}")
        for artifact in map(json.loads, built.stdout.splitlines()):
            if artifact.get("executable") and artifact["profile"]["test"]:
                is_library = "lib" in artifact["target"]["kind"]
                name = artifact["target"]["name"] if not is_library else "loom" if names == ["loom"] else "unit"
                programs[name] = artifact["executable"]
    return {name: programs[name] for name in suites}


def words_for(suite, program, wanted):
    """What the program is told to run: nothing is all of it, `None` that it has no such test."""
    listed = subprocess.run([program, "--list"], cwd=ROOT, env=environment(), capture_output=True, text=True)
    names = re.findall(r"^(.+): test$", listed.stdout, re.M)
    # The other tests of the library do not run under loom.
    names = [name for name in names if suite != "loom" or LOOM_TESTS in name]
    found = [name for name in names if not wanted or any(word in name for word in wanted)]
    if not found:
        return None
    return ["--exact", *found] if suite == "loom" else wanted


@contextlib.contextmanager
def load(processes):
    """As many processes that use a core each; they end with this one, too."""
    code = "import os\nwhile os.getppid() == %d:\n    for _ in range(1_000_000): pass" % os.getpid()
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def of_group(group):
    """The processes of that process group that have not ended, as `name id`."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_text()
            state, _, its_group = stat.rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(f"{stat[stat.index('(') + 1:stat.rindex(')')]} {folder.name}")
    return found


def end(group):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def run(program, words, log, timeout, cores):
    """One run: what failed, by name, and how many seconds it took."""
    started = time.monotonic()
    too_long = False
    with log.open("wb") as output:
        # A process group of its own, in which its servers are as well: what is left of it can be found and ended.
        child = subprocess.Popen(
            [program, *words], cwd=ROOT, env=environment() | {"CARGO_MANIFEST_DIR": str(ROOT)}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            too_long = True
        finally:
            if child.poll() is None:
                end(child.pid)
                child.wait()
    seconds = time.monotonic() - started
    said = log.read_text(errors="replace")
    failed = dict.fromkeys(FAILED.findall(said))
    failed = list(failed | dict.fromkeys(name for names in FAILURES.findall(said) for name in names.split()))
    if too_long:
        unended = [name for name in dict.fromkeys(BEGUN.findall(said)) if name not in ENDED.findall(said)]
        failed += [f"{name} (no end within {timeout} s)" for name in unended or ["the program"]]
    elif child.returncode and not failed:
        failed.append(f"the program (exit status {child.returncode})")
    until = time.monotonic() + GRACE
    while (left := of_group(child.pid)) and time.monotonic() < until:
        time.sleep(0.1)
    if left and not too_long:
        failed.append(f"the program (left running: {', '.join(left)})")
        with log.open("a") as output:
            output.write(f"\nflaky: left running: {', '.join(left)}\n")
    end(child.pid)
    return failed, seconds


def play(programs, words, options):
    """Every suite in every setting; gives rows of the table, and of each test that failed its logs in each setting."""
    rows, failures = [], collections.defaultdict(lambda: collections.defaultdict(list))
    all_cores = os.sched_getaffinity(0)
    for setting in options.settings:
        cores = {max(all_cores)} if setting == "one-core" else all_cores
        for suite, program in programs.items():
            print(f"{suite}, {setting}: ", end="", flush=True)
            seconds, failed_runs = [], 0
            with load(len(all_cores) if setting == "loaded" else 0):
                for number in range(1, options.runs + 1):
                    log = KEPT / f"{suite}-{setting}-{number}.log"
                    failed, took = run(program, words[suite], log, options.timeout, cores)
                    seconds.append(took)
                    print("F" if failed else ".", end="", flush=True)
                    failed_runs += bool(failed)
                    for name in failed:
                        failures[suite, name][setting].append(log.relative_to(ROOT))
                    if not failed:
                        log.unlink()
            rows.append((suite, setting, options.runs, failed_runs, f"{statistics.median(seconds):.1f}"))
            print(f" {rows[-1][-1]} s", flush=True)
    return rows, failures


def report(rows, failures):
    table = [("suite", "setting", "runs", "failed runs", "seconds (median)"), *rows]
    widths = [max(len(str(row[column])) for row in table) for column in range(len(table[0]))]
    print()
    for row in table:
        print("  ".join(f"{cell:<{width}}" if n < 2 else f"{cell:>{width}}" for n, (cell, width) in enumerate(zip(row, widths))))
    for (suite, name), settings in sorted(failures.items()):
        print(f"\n{suite}: {name}")
        for setting, logs in settings.items():
            print(f"    {setting}: {len(logs)} of {rows[0][2]}; {', '.join(map(str, logs[:3]))}{', ...' if len(logs) > 3 else ''}")
    runs, failed = (sum(row[column] for row in rows) for column in (2, 3))
    print(f"\nflaky: {runs} runs, {failed} failed")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--suites", type=str.split, default=[], help=f"some of: {' '.join(SUITES)}")
    options.add_argument("--settings", type=str.split, default=[], help=f"some of: {' '.join(SETTINGS)}")
    options.add_argument("--tests", type=str.split, default=[], help="only tests whose names contain one of these words")
    options.add_argument("--timeout", type=int, default=1200, help="seconds that a run may take")
    options = options.parse_args()
    for kind, given, known in (("suite", options.suites, SUITES), ("setting", options.settings, SETTINGS)):
        if unknown := [word for word in given if word not in known]:
            fail(f"no {kind} is called {' or '.join(unknown)}; there are {', '.join(known)}")
    if options.runs < 1 or options.timeout < 1:
        fail("runs and seconds are counted from 1")
    options.settings = options.settings or list(SETTINGS)

    programs = build(options.suites or list(SUITES))
    words = {name: words_for(name, program, options.tests) for name, program in programs.items()}
    programs = {name: program for name, program in programs.items() if words[name] is not None}
    if not programs:
        fail(f"no test is called {' or '.join(options.tests)}")
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    # Ends what was started, as an interrupt does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("flaky: ended by SIGTERM"))
    rows, failures = play(programs, words, options)
    report(rows, failures)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
