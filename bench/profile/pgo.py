#!/usr/bin/env python3
"""Builds boxoffice with profile-guided optimisation, and measures it beside the plain release.

    make pgo                          # target/pgo/release/boxoffice
    bench/profile/pgo.py --rounds 7   # more rounds of the comparison; 0 for none

Three steps: a release that counts its branches; the workloads below on it, on Redis and on SQLite; a release that is laid out
by the counts. Then both releases take turns at the same workloads: CPU time a request and requests a second, as ratios
within a round.

It takes the `llvm-profdata` of the LLVM that rustc has, or of a later one: `rustup component add llvm-tools`, or Debian's
package llvm-22. Python's standard library only.
"""

import argparse
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "macro"))
import servers
from measuring import measure, words_of
from servers import ROOT, fail
from stand import Target

TARGET = ROOT / "target/pgo"
PLAIN, GUIDED = ROOT / "target/release/boxoffice", TARGET / "release/boxoffice"
LOAD = ROOT / "target/release/examples/load"

# What is asked, and what every answer must be.
WORKLOADS = {
    "refusals": ({"kind": "buy", "sale": "gone"}, "sold-out"),
    "refusals, pipelined 16": ({"kind": "buy", "sale": "gone", "pipeline": 16, "connections": 64}, "sold-out"),
    "refusals, a connection each": ({"kind": "buy", "sale": "gone", "close": True}, "sold-out"),
    "bookings with ids": ({"kind": "put"}, "granted"),
    "bookings": ({"kind": "buy"}, "granted"),
    "bookings, confirmed and cancelled": ({"kind": "mix"}, "mixed"),
}


def rustc():
    """The release of rustc's LLVM, and where rustup puts LLVM's tools."""
    said = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    root = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True).stdout.strip()
    host = re.search(r"^host: (\S+)", said, re.M)[1]
    return int(re.search(r"^LLVM version: (\d+)", said, re.M)[1]), pathlib.Path(root, "lib/rustlib", host, "bin")


def profdata():
    """An `llvm-profdata` that reads what this rustc writes."""
    release, tools = rustc()
    for name in (tools / "llvm-profdata", f"llvm-profdata-{release}", "llvm-profdata"):
        if found := shutil.which(name):
            said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
            version = re.search(r"LLVM version (\d+)", said)
            if version and int(version[1]) >= release:
                return found
    fail(f"llvm-profdata of LLVM {release} or later is missing; rustup component add llvm-tools, or apt-get install llvm-{release}")


def build(flags, **environment):
    environment = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    environment["RUSTFLAGS"] = f"{environment.get('RUSTFLAGS', '')} {flags}".strip()
    words = ["cargo", "build", "--locked", "--release", "--bin", "boxoffice"]
    if subprocess.run(words, cwd=ROOT, env=environment).returncode != 0:
        fail("the build failed, see above")


def train(folder, redis, seconds):
    for name, ledger in (("on-redis", f"redis://127.0.0.1:{redis.port}/0"), ("on-sqlite", "sqlite:{home}/boxoffice.db")):
        trained = servers.Boxoffice(folder, name, GUIDED, ledger)
        try:
            for number, (options, expect) in enumerate(WORKLOADS.values()):
                words = words_of(**options, seconds=seconds, prefix=f"t{number}")
                measure(LOAD, Target(trained), words, expect)
        finally:
            # It writes its counts as it ends.
            trained.process.end()


def compare(folder, redis, rounds, seconds):
    seen = {}
    for number in range(rounds):
        for workload, (options, expect) in WORKLOADS.items():
            both = (("plain", PLAIN), ("guided", GUIDED))
            for name, binary in both if number % 2 == 0 else both[::-1]:
                redis.command("flushall", "sync")
                one = servers.Boxoffice(folder, name, binary, f"redis://127.0.0.1:{redis.port}/0")
                try:
                    words = words_of(**options, seconds=seconds, prefix=f"c{number}")
                    seen.setdefault((workload, name), []).append(measure(LOAD, Target(one, [redis]), words, expect))
                finally:
                    one.process.end()
    print("\n| workload | server CPU us, plain | guided | ratio | least to most | requests/s, ratio |")
    print("| --- | ---: | ---: | ---: | --- | ---: |")
    for workload in WORKLOADS:
        plain, guided = seen[workload, "plain"], seen[workload, "guided"]
        median = lambda each: statistics.median(one["server_us"] for one in each)
        ratios = lambda figure: [after[figure] / before[figure] for before, after in zip(plain, guided)]
        costs = ratios("server_us")
        print(
            f"| {workload} | {median(plain):.2f} | {median(guided):.2f} | {statistics.median(costs):.2f} "
            f"| {min(costs):.2f} to {max(costs):.2f} | {statistics.median(ratios('per_second')):.2f} |"
        )


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5, help="of the comparison")
    options.add_argument("--seconds", type=float, default=2, help="of load, each workload, each round")
    options = options.parse_args()
    tool = profdata()
    for file in (PLAIN, LOAD):
        if not file.exists():
            fail(f"{file} is missing; `make pgo` makes it")
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TARGET) as folder:
        folder = pathlib.Path(folder)
        counts, profile = folder / "counts", folder / "profile"
        # The same flag each time, so that cargo keeps that build; where counts go, LLVM_PROFILE_FILE says.
        build(f"-Cprofile-generate={TARGET / 'unused'}", CARGO_TARGET_DIR=TARGET)
        redis = servers.Redis(folder, "redis", "--appendonly", "no")
        try:
            os.environ["LLVM_PROFILE_FILE"] = str(counts / "%p.profraw")
            train(folder, redis, options.seconds)
            del os.environ["LLVM_PROFILE_FILE"]
            raw = sorted(counts.glob("*.profraw"))
            if not raw:
                fail("the instrumented host wrote no counts")
            subprocess.run([tool, "merge", "-o", profile, *raw], check=True)
            # By a name of its own: cargo builds anew where the flags change, not where the file does.
            build(f"-Cprofile-use={profile}", CARGO_TARGET_DIR=TARGET)
            if options.rounds:
                compare(folder, redis, options.rounds, options.seconds)
        finally:
            redis.process.end()
    print(f"\n{GUIDED.relative_to(ROOT)} is the guided release")


if __name__ == "__main__":
    main()
