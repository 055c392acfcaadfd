#!/usr/bin/env python3
"""Tells which lines of engine, desk, stock, the session of Redis and the scripts the simulator's seeds run, and which none does.

    make coverage                      # 1,000 seeds; writes tests/sim/COVERAGE.md
    make coverage SEEDS_COVERED=10000

Lines of Rust are counted by cargo-tarpaulin (`cargo install cargo-tarpaulin --locked`), in a build of its own below
target/coverage. Lines of Lua are noted by the simulator itself, and those that have code are told by luac5.1 (Debian's
package lua5.1). A line that a macro or a generic makes may count as one that has no code.

Python's standard library only.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEPT = ROOT / "target/coverage"
OF_RUST = ("src/engine", "src/desk", "src/stock", "src/ledger/redis/session")
FRONT = "lua/sale.lua"


def fail(words):
    print(f"coverage: {words}", file=sys.stderr)
    sys.exit(2)


def ranges(lines):
    """`3, 7-9`"""
    parts = []
    for line in sorted(lines):
        if parts and line == parts[-1][1] + 1:
            parts[-1][1] = line
        else:
            parts.append([line, line])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def skeleton(text):
    """What is left of it when comments, names and spaces go: by that a loaded script is known."""
    text = re.sub(r"\{\s*(?:'[A-Z ]+'(?:, ?)?)+\s*\}", "", text)  # the commands, which are put in as it is loaded
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return re.sub(r"[\w\s]+", "", re.sub(r"\s--.*", "", code))


def with_code(path):
    told = subprocess.run(["luac5.1", "-p", "-l", path], capture_output=True, text=True, check=True).stdout
    # An instruction: its number, its line. Where a function ends a RETURN stands that nobody wrote.
    found = re.findall(r"^\t\d+\t\[(\d+)\]\t(\w+)", told, re.M)
    lines = path.read_text().splitlines()
    return {int(line) for line, word in found if not (word == "RETURN" and lines[int(line) - 1].strip() in ("end", "}"))}


def of_scripts(noted):
    front = ROOT / FRONT
    length = len(front.read_text().splitlines())
    ran = {FRONT: set()}
    files = {path: path.read_text() for path in sorted((ROOT / "lua").glob("*.lua")) if path != front}
    loaded = {skeleton(front.read_text()) + skeleton(text): (path, length) for path, text in files.items()}
    loaded |= {skeleton(text): (path, 0) for path, text in files.items()}
    for script in noted:
        if skeleton(script["text"]) not in loaded:
            fail(f"a script ran that is none of lua/: {script['text'][-200:]!r}")
        path, before = loaded[skeleton(script["text"])]
        ran.setdefault(str(path.relative_to(ROOT)), set()).update(line - before for line in script["lines"] if line > before)
        ran[FRONT].update(line for line in script["lines"] if line <= before)
    names = {path: str(path.relative_to(ROOT)) for path in [front, *files]}
    return {name: (with_code(path), ran.get(name, set())) for path, name in names.items()}


def of_rust(report):
    files = {}
    for each in report["files"]:
        path = pathlib.Path(*each["path"]).relative_to(ROOT)
        if not str(path).startswith(OF_RUST) or "tests" in str(path):
            continue
        lines = {trace["line"]: trace["stats"]["Line"] for trace in each["traces"] if "Line" in trace["stats"]}
        files[str(path)] = (set(lines), {line for line, times in lines.items() if times})
    return dict(sorted(files.items()))


def run(seeds):
    if not shutil.which("cargo-tarpaulin"):
        fail("cargo-tarpaulin is missing: cargo install cargo-tarpaulin --locked")
    if not shutil.which("luac5.1"):
        fail("luac5.1 is missing: apt-get install lua5.1")
    KEPT.mkdir(parents=True, exist_ok=True)
    command = ["cargo", "tarpaulin", "--locked", "--profile", "quick", "--engine", "llvm", "--test", "sim", "--out", "json"]
    command += ["--output-dir", KEPT, "--target-dir", KEPT / "build", "--skip-clean", "--timeout", "3600", "--", "seeds"]
    words = os.environ | {"SEEDS": str(seeds), "LINES": str(KEPT / "lines.json")}
    for name in ("SEED", "TABLE"):
        words.pop(name, None)
    if subprocess.run(command, cwd=ROOT, env=words).returncode:
        fail("the seeds did not run, see above")
    return json.loads((KEPT / "tarpaulin-report.json").read_text()), json.loads((KEPT / "lines.json").read_text())


def table(files):
    rows = ["| file | lines with code | run | not run |", "| --- | ---: | ---: | --- |"]
    for name, (lines, ran) in files.items():
        missed = lines - ran
        rows.append(f"| {name} | {len(lines)} | {len(lines & ran) / max(1, len(lines)):.0%} | {ranges(missed)} |")
    lines = sum(len(there) for there, _ in files.values())
    ran = sum(len(there & ran) for there, ran in files.values())
    return "\n".join([*rows, f"| all | {lines} | {ran / lines:.1%} | {lines - ran} lines |"])


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=1_000)
    options = options.parse_args()
    report, noted = run(options.seeds)
    head = (ROOT / "tests/sim/coverage_head.md").read_text()
    scripts, rust = of_scripts(noted), of_rust(report)
    if not rust:
        fail("tarpaulin counted no line of " + ", ".join(OF_RUST))
    text = f"{head}\n## Scripts, {options.seeds:,} seeds\n\n{table(scripts)}\n\n## Rust, {options.seeds:,} seeds\n\n{table(rust)}\n"
    (ROOT / "tests/sim/COVERAGE.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
