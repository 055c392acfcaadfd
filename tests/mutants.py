#!/usr/bin/env python3
"""Plants each mutant of tests/mutants.toml in a copy of the tree, and tells whether the test that is named there finds it.

    make mutants                                   # all of them: a build of the library each, an hour
    make mutants MUTANTS="sqlite-not-durable lua"  # those whose names contain one of these words

A mutant is one change of the text of one file, by which somebody would be hurt. It is convicted where the named test fails
with it and passes without. Where it lives, the test has to become better. It is an error, and no conviction, where its text
is not in the file exactly once, where the tree does not build with it, where no test has that name, and where the test has
no end.

The copy is target/mutants/tree, what was built of it target/mutants/build, and what was said target/mutants/NAME.log. Files
are copied only where they have changed, so that each mutant costs the build of what it is in. They are built without
optimisation. Nothing outside target/ is written.

Exit status: 0 if all were convicted, 1 if one lives or could not be judged, 2 if the words or the list mean nothing.
Python's standard library only, of 3.11 or later.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "tests/mutants.toml"
KEPT = ROOT / "target/mutants"
TREE = KEPT / "tree"
# What cargo is told to build, and beside it, of what it depends on.
SUITES = {"unit": ["--lib"], "loom": ["--lib"]} | {
    name: ["--test", name] for name in ("allocations", "conformance", "fuzz", "integration", "scale", "scripts", "wire")
}
FIELDS = {"name", "file", "find", "put", "suite", "test", "hurts"}
# Ours alone: what it depends on is built once, and as for the tests.
CARGO = ["cargo", "test", "--locked", "--profile", "quick", "--config", "profile.quick.package.boxoffice.opt-level=0"]
# Words of ours that mean something else to a make that a test starts.
NOT_PASSED_ON = ("MUTANTS", "TIMEOUT", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")
# Of what libtest says at its end, where nothing that a server said can be in between.
FAILURES = re.compile(r"^failures:\n((?:    \S+\n)+)\ntest result: FAILED", re.M)
RESULT = re.compile(r"^test result: (?:ok|FAILED)\. (\d+) passed; (\d+) failed;", re.M)


def fail(words):
    print(f"mutants: {words}", file=sys.stderr)
    sys.exit(2)


class Unjudged(Exception):
    """Why it cannot be said whether a test finds a mutant."""


def environment(suite):
    variables = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    variables |= {"CARGO_INCREMENTAL": "1", "CARGO_TARGET_DIR": str(KEPT / "build")}
    if suite == "loom":
        variables |= {"RUSTFLAGS": f"{variables.get('RUSTFLAGS', '')} --cfg loom", "CARGO_TARGET_DIR": str(KEPT / "loom")}
    return variables


def read_list(wanted):
    """The mutants whose names contain one of these words, or all."""
    try:
        mutants = tomllib.loads(LIST.read_text())["mutant"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        fail(f"{LIST.relative_to(ROOT)} is no list of mutants: {error}")
    names = [mutant.get("name") for mutant in mutants]
    for mutant in mutants:
        name = mutant.get("name")
        if set(mutant) != FIELDS:
            fail(f"{name}: has {', '.join(sorted(mutant))}, and not {', '.join(sorted(FIELDS))}")
        if not re.fullmatch(r"[a-z0-9-]+", name) or names.count(name) > 1:
            fail(f"{name}: is not a name of its own, of small letters, digits and hyphens")
        if mutant["suite"] not in SUITES:
            fail(f"{name}: no suite is called {mutant['suite']}; there are {', '.join(SUITES)}")
    found = [mutant for mutant in mutants if not wanted or any(word in mutant["name"] for word in wanted)]
    if not found:
        fail(f"no mutant is called {' or '.join(wanted)}")
    return found


def copy_tree():
    """Brings the copy up to date with the working tree; a file that is the same keeps its time, so that it is not built again."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    names = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    for name in names:
        source, copy = ROOT / name, TREE / name
        content = source.read_bytes()
        if not copy.is_file() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        copy.chmod(source.stat().st_mode)
    for copy in [path for path in TREE.rglob("*") if path.is_file()]:
        if str(copy.relative_to(TREE)) not in names:
            copy.unlink()
    # What the set-up of the tests has installed.
    for name in ("browser", "schemathesis"):
        link = TREE / "target" / name
        if not link.is_symlink():
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(ROOT / "target" / name)


def build(suite, log):
    """Builds the program of a suite; gives its path."""
    command = [*CARGO, "--no-run", "--message-format", "json-render-diagnostics", *SUITES[suite]]
    built = subprocess.run(command, cwd=TREE, env=environment(suite), stdout=subprocess.PIPE, stderr=log, text=True)
    if built.returncode:
        raise Unjudged("does not build")
    for artifact in map(json.loads, built.stdout.splitlines()):
        if artifact.get("executable") and artifact["profile"]["test"]:
            return artifact["executable"]
    raise Unjudged("has no test program")


def run(program, suite, test, log, timeout):
    """Whether the one test of that name passes; raises where that cannot be said."""
    log.flush()
    begins = log.tell()
    variables = environment(suite) | {"CARGO_MANIFEST_DIR": str(TREE)}
    # A process group of its own, in which its servers are as well.
    child = subprocess.Popen(
        [program, "--exact", test], cwd=TREE, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        status = child.wait(timeout)
    except subprocess.TimeoutExpired:
        raise Unjudged(f"has no end within {timeout} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    said = pathlib.Path(log.name).read_bytes()[begins:].decode(errors="replace")
    counts = RESULT.findall(said)
    if counts == [("0", "0")]:
        raise Unjudged("no such test")
    if status == 0 and counts == [("1", "0")]:
        return True
    if counts == [("0", "1")] and [name.split() for name in FAILURES.findall(said)] == [[test]]:
        return False
    raise Unjudged(f"the test program ended with {status}")


def judge_clean(tests, timeout):
    """Runs each test without any mutant; gives why those that cannot be relied on cannot."""
    programs, unfit = {}, {}
    for suite, test in tests:
        print(f"without a mutant: {suite} {test} ... ", end="", flush=True)
        with (KEPT / f"clean-{suite}.log").open("a") as log:
            try:
                if suite not in programs:
                    programs[suite] = build(suite, log)
                why = None if run(programs[suite], suite, test, log, timeout) else "fails without it too"
            except Unjudged as error:
                why = f"without it: {error}"
        if why:
            unfit[suite, test] = why
        print(why or "passes", flush=True)
    return unfit


def judge(mutant, timeout):
    """What becomes of a mutant: `convicted`, `LIVES`, or why that cannot be said."""
    path = TREE / mutant["file"]
    before = path.read_text() if path.is_file() else ""
    count = before.count(mutant["find"])
    if count != 1:
        return f"its text is {count} times in {mutant['file']}"
    if mutant["find"] == mutant["put"]:
        return "changes nothing"
    with (KEPT / f"{mutant['name']}.log").open("w") as log:
        path.write_text(before.replace(mutant["find"], mutant["put"]))
        try:
            program = build(mutant["suite"], log)
            return "LIVES" if run(program, mutant["suite"], mutant["test"], log, timeout) else "convicted"
        except Unjudged as error:
            return str(error)
        finally:
            path.write_text(before)


def report(rows):
    table = [("mutant", "judged", "seconds", "by", "whose hurt"), *rows]
    widths = [max(len(str(row[column])) for row in table) for column in range(4)]
    print()
    for *cells, hurts in table:
        aligned = (f"{cell:>{width}}" if n == 2 else f"{cell:<{width}}" for n, (cell, width) in enumerate(zip(cells, widths)))
        print("  ".join([*aligned, hurts]))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mutants", type=str.split, default=[], help="only those whose names contain one of these words")
    options.add_argument("--timeout", type=int, default=300, help="seconds that a test may take")
    options = options.parse_args()
    mutants = read_list(options.mutants)
    KEPT.mkdir(parents=True, exist_ok=True)
    for log in KEPT.glob("*.log"):
        log.unlink()
    # Ends what was started, and takes the mutant out, as an interrupt does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("mutants: ended by SIGTERM"))
    copy_tree()
    # One suite after the other: what is built for one is at hand for the next test of it.
    order = list(SUITES)
    mutants.sort(key=lambda mutant: order.index(mutant["suite"]))
    unfit = judge_clean(dict.fromkeys((mutant["suite"], mutant["test"]) for mutant in mutants), options.timeout)
    rows = []
    for mutant in mutants:
        print(f"{mutant['name']} ... ", end="", flush=True)
        started = time.monotonic()
        judged = unfit.get((mutant["suite"], mutant["test"])) or judge(mutant, options.timeout)
        print(judged, flush=True)
        seconds = f"{time.monotonic() - started:.0f}"
        rows.append((mutant["name"], judged, seconds, f"{mutant['suite']} {mutant['test']}", mutant["hurts"]))
    report(rows)
    convicted = sum(row[1] == "convicted" for row in rows)
    print(f"\nmutants: {len(rows)} planted, {convicted} convicted")
    sys.exit(0 if convicted == len(rows) else 1)


if __name__ == "__main__":
    main()
