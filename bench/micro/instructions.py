#!/usr/bin/env python3
"""Counts the instructions that each part of a request's way takes, and holds them against instructions.toml.

    make instructions           # fails where one takes more than its baseline allows
    make instructions-accept    # writes the counts as the new baseline, to be committed with the change that made them
    make test                   # lets more pass (the word `coarse`), for it may run on another machine

callgrind counts what `bench/micro/instructions.rs` runs: the same every time, to the instruction, on a busy machine too. The
program is built as the tests are (the profile `quick`: optimised, with its checks for overflow), so that CI builds
nothing twice for it. A release takes fewer instructions, and fewer of the same.

A subject may take TOLERANCE more than its baseline: that much more at once is a decision, and less at once is caught when
it has added up. The counts of another compiler, another C library or a processor without AVX2 (memchr, httparse and the C
library choose by it) are others. So COARSE is let pass in CI, and wherever the compiler is not the one of the baseline.

Python's standard library only.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASELINE = pathlib.Path(__file__).with_suffix(".toml")
TOLERANCE = 0.04
COARSE = 0.25
# So far below its baseline a subject could lose all that was gained, and the check would not tell.
STALE = 0.20

HEAD = """\
# Instructions of one operation, as callgrind counts them: written by `make instructions-accept`, held by `make instructions`.

"""


def fail(problem):
    sys.exit(f"instructions: {problem}")


def output(*words, **more):
    done = subprocess.run(words, text=True, capture_output=True, **more)
    if done.returncode != 0:
        fail(f"{words[0]} failed:\n{done.stderr.strip()}")
    return done.stdout


def compiler():
    """`rustc 1.95.0` and the machine that it compiles for."""
    said = output("rustc", "-vV")
    return re.search(r"^rustc \S+", said)[0], re.search(r"^host: (\w+)", said, re.M)[1]


def count(program):
    """Instructions of one operation of each subject."""
    valgrind = shutil.which("valgrind") or fail("valgrind is missing; `make setup` installs it")
    with tempfile.TemporaryDirectory() as folder:
        said = output(
            valgrind,
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=instructions::counted*",
            "--dump-before=instructions::finished*",
            f"--callgrind-out-file={folder}/counts",
            program,
            # The environment is on the stack: the same size of it, the same alignment of all above.
            env={},
        )
        counts = {}
        for number, line in enumerate(said.splitlines(), 1):
            operations, name = line.split(" ", 1)
            counts_of = pathlib.Path(f"{folder}/counts.{number}").read_text()
            total = int(re.search(r"^totals: (\d+)$", counts_of, re.M)[1])
            if total == 0:
                fail(f"callgrind counted nothing for {name}: has `counted` been inlined?")
            counts[name] = round(total / int(operations), 1)
    return counts


def accept(counts, rustc, machine):
    baselines = tomllib.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    baselines[machine] = {"compiler": rustc, "operations": counts}
    text = HEAD
    for machine, baseline in sorted(baselines.items()):
        text += f'[{machine}]\ncompiler = "{baseline["compiler"]}"\n\n[{machine}.operations]\n'
        text += "".join(f'"{name}" = {each}\n' for name, each in baseline["operations"].items()) + "\n"
    BASELINE.write_text(text.rstrip() + "\n")
    print(f"written to {BASELINE.relative_to(ROOT)}: commit it with the change, and say in the message why")


def check(counts, rustc, machine, coarse):
    baseline = tomllib.loads(BASELINE.read_text()).get(machine)
    if baseline is None:
        fail(f"no baseline for {machine}; `make instructions-accept` takes one from a state that is as it should be")
    tolerance = COARSE if coarse or rustc != baseline["compiler"] else TOLERANCE
    before = baseline["operations"]
    more, less = [], []
    print(f"{'instructions of one operation':32} {'baseline':>10} {'now':>10}")
    for name in sorted(counts.keys() | before.keys(), key=list(counts | before).index):
        if name not in counts or name not in before:
            more.append(name)
            print(f"{name:32} {before.get(name, '-'):>10} {counts.get(name, '-'):>10}  in one of them only")
            continue
        change = counts[name] / before[name] - 1
        word = "TOO MANY" if change > tolerance else ""
        if word:
            more.append(name)
        if change < -STALE:
            less.append(name)
        print(f"{name:32} {before[name]:>10} {counts[name]:>10} {change:>+8.1%}  {word}".rstrip())
    if rustc != baseline["compiler"]:
        print(f"the baseline is of {baseline['compiler']}, this is {rustc}: {tolerance:.0%} more is let pass")
    if less:
        print(f"{', '.join(less)}: far below the baseline; `make instructions-accept` holds on to that")
    if more:
        fail(
            f"more than {tolerance:.0%} above the baseline, or in one of them only: {', '.join(more)}.\n"
            "If it is worth it: make instructions-accept, and commit bench/micro/instructions.toml with the change."
        )


def main():
    match sys.argv[1:]:
        case [program]:
            check(count(program), *compiler(), coarse=False)
        case [program, "coarse"]:
            check(count(program), *compiler(), coarse=True)
        case [program, "accept"]:
            accept(count(program), *compiler())
        case _:
            fail("takes the program that is counted, and perhaps the word accept or coarse")


if __name__ == "__main__":
    main()
