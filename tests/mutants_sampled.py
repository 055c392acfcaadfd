#!/usr/bin/env python3
"""Plants a sample of all the mutants that cargo-mutants can think of in desk, engine, stock and ledger, and tells
which of them no test finds.

    make mutants-sampled                        # 100 of each folder, about two hours
    make mutants-sampled SAMPLE=1000000         # all of them: a night or two
    make mutants-sampled MUTANTS="rules.rs"     # those of the sample whose names contain one of these words, once more

cargo-mutants (`cargo install cargo-mutants --locked`) lists the mutants, and this builds and judges them, as
tests/mutants.py does, in the same copy of the tree below target/mutants. A mutant is known by its file, its change and its
function, without the line; where a function has several alike, by their order. The sample of a folder is those whose names
have the smallest SHA-256: the same ones each time, and a larger sample has the smaller one in it. What only tests run is
left out (tests, `check_invariants`).

A mutant is tried tier by tier until a test fails, and fails once more alone: the unit tests of its folder; of the ledger,
conformance; of the others and of ledger/redis, so many seeds of the simulator; the other unit tests, but for one that knows
the connection alone; of ledger/redis, scripts; of the others, allocations; and the integration tests named in INTEGRATION.
What is found is kept in target/mutants/sampled.json, so that a pass that was stopped goes on, and a larger sample costs only
what is new. `--again` forgets it. A program that has no end is taken for one that fails: on a busy machine, see why.

tests/mutants_sampled.toml says of survivors why nobody is hurt; those that it does not name are an error. The table goes
into tests/MUTANTS_SAMPLED.md.

Exit status: 0 if each mutant was convicted or is explained, 1 if not, 2 if the words or the list mean nothing.
Python's standard library only, of 3.11 or later.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import tomllib

import mutants

ROOT = mutants.ROOT
TREE = mutants.TREE
KNOWN = mutants.KEPT / "sampled.json"
LOG = mutants.KEPT / "sampled.log"
EXPLAINED = ROOT / "tests/mutants_sampled.toml"
HEAD = ROOT / "tests/mutants_sampled_head.md"
PAGE = ROOT / "tests/MUTANTS_SAMPLED.md"
FOLDERS = ("desk", "engine", "stock", "ledger")
NOT_OURS = ("**/tests.rs", "**/tests/**", "**/loom_tests.rs", "src/desk/check.rs")
FOR_TESTS = re.compile(r"\btests::|check_invariants")
# Half a minute of the connection alone, which nothing here is below.
SLOW = "connection::tests::table::every_case_in_every_fragmentation"
TIERS = ("own unit", "conformance", "simulator", "unit", "scripts", "allocations", "integration")
# Of what only the integration tests run: the modules of it that do.
INTEGRATION = {
    "src/engine/admission.rs": ["limits::", "floods::"],
    "src/engine/service.rs": ["http::"],
    "src/ledger/redis/advice.rs": ["start_up::", "rights::"],
    "src/ledger/redis/client.rs": ["operators::", "lost_sales::"],
    "src/ledger/redis/fence.rs": ["outages::", "redis_connections::"],
    "src/ledger/redis/rights.rs": ["rights::"],
    "src/ledger/sqlite.rs": ["read_only::", "durability::"],
    "src/ledger/trouble.rs": ["readiness::", "rights::"],
    "src/ledger/url.rs": ["passwords::", "start_up::"],
}
# Without names of variables for a debugger, which take a while to link.
CARGO = [*mutants.CARGO, "--config", "profile.quick.package.boxoffice.debug=false", "--no-run", "--message-format"]
# As libtest and the simulator say it while they run.
FAILED = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. FAILED", re.M)
# A mutant that takes memory without end ends itself and not the machine.
BYTES_MAX = 6 << 30


def fail(words):
    print(f"mutants-sampled: {words}", file=sys.stderr)
    sys.exit(2)


class DoesNotBuild(Exception):
    """The mutant is none."""


Mutant = collections.namedtuple("Mutant", "name folder file before after")


def offset(lines, place):
    return sum(map(len, lines[: place["line"] - 1])) + place["column"] - 1


def list_mutants():
    """All of them, of each folder in the order of the sample."""
    command = ["cargo", "mutants", "--list", "--json"]
    command += [word for folder in FOLDERS for word in ("--file", f"src/{folder}/**")]
    command += [word for pattern in NOT_OURS for word in ("--exclude", pattern)]
    try:
        listed = json.loads(subprocess.run(command, cwd=TREE, stdout=subprocess.PIPE, check=True).stdout)
    except (OSError, subprocess.CalledProcessError) as error:
        fail(f"cargo-mutants lists nothing: {error}")
    alike, found = collections.Counter(), {folder: [] for folder in FOLDERS}
    listed.sort(key=lambda each: (each["file"], each["span"]["start"]["line"], each["span"]["start"]["column"]))
    for each in listed:
        if FOR_TESTS.search(each["name"]):
            continue
        text = (TREE / each["file"]).read_text()
        lines = text.splitlines(keepends=True)
        begin, end = (offset(lines, each["span"][which]) for which in ("start", "end"))
        name = re.sub(r"^(\S+?):\d+:\d+: ", r"\1: ", each["name"])
        alike[name] += 1
        if alike[name] > 1:
            name += f" ({alike[name]})"
        folder = each["file"].split("/")[1]
        after = f"{text[:begin]}{each['replacement']} {text[end:]}"
        found[folder].append(Mutant(name, folder, each["file"], text, after))
    for each in found.values():
        each.sort(key=lambda mutant: hashlib.sha256(mutant.name.encode()).digest())
    return found


def build(kind):
    """Builds a program of tests; gives its path."""
    command = [*CARGO, "json-render-diagnostics", *(["--lib"] if kind == "lib" else ["--test", kind])]
    with LOG.open("a") as log:
        built = subprocess.run(command, cwd=TREE, env=mutants.environment(kind), stdout=subprocess.PIPE, stderr=log, text=True)
    if built.returncode:
        raise DoesNotBuild
    for artifact in map(json.loads, built.stdout.splitlines()):
        if artifact.get("executable") and artifact["profile"]["test"]:
            return artifact["executable"]
    raise DoesNotBuild


def modest():
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES_MAX, BYTES_MAX))


def run(program, arguments, options):
    """What fails first, if anything does: a test, or the program itself."""
    LOG.touch()
    begins = LOG.stat().st_size
    variables = mutants.environment("unit") | {
        "CARGO_MANIFEST_DIR": str(TREE), "SEEDS": str(options.seeds), "RUST_BACKTRACE": "0", "SEED": "",
    }
    deadline = time.monotonic() + options.timeout
    with LOG.open("a") as log:
        # A process group of its own, in which its servers are as well.
        child = subprocess.Popen(
            [program, *arguments], cwd=TREE, env=variables, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=modest,
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(0.1)
                said = LOG.read_bytes()[begins:].decode(errors="replace")
                if failed := FAILED.search(said):
                    return failed[1]
                if child.returncode is not None:
                    return f"ends with {child.returncode}" if child.returncode else None
                if time.monotonic() > deadline:
                    return f"no end within {options.timeout} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def tier_of(tier, mutant):
    """The program of a tier and what it is told, if the tier has anything for this mutant."""
    match tier:
        case "own unit":
            return "lib", [f"{mutant.folder}::"]
        case "unit":
            return "lib", ["--skip", f"{mutant.folder}::", "--skip", SLOW]
        case "conformance" | "scripts" if mutant.folder != "ledger":
            return None
        case "scripts" | "simulator" if mutant.folder == "ledger" and not mutant.file.startswith("src/ledger/redis/"):
            return None
        case "allocations" if mutant.folder == "ledger":
            return None
        case "simulator":
            return "sim", ["seed"]
        case "integration":
            return ("integration", INTEGRATION[mutant.file]) if mutant.file in INTEGRATION else None
        case _:
            return tier, []


def judge(mutant, known, options):
    """Tries the tiers that it has not passed. Changes what is known of it."""
    path = TREE / mutant.file
    path.write_text(mutant.after)
    programs = {}
    try:
        for tier in options.tiers:
            mark = f"{tier} {options.seeds}" if tier == "simulator" else tier
            if mark in known["passed"] or not (asked := tier_of(tier, mutant)):
                continue
            kind, arguments = asked
            if kind not in programs:
                programs[kind] = build(kind)
            failed = run(programs[kind], arguments, options)
            if failed and "::" in failed:
                # By chance, on a busy machine, is not by the mutant.
                if not run(programs[kind], ["--exact", failed], options):
                    known["at times"] = [*known.get("at times", []), failed]
                    failed = None
            if failed:
                known |= {"verdict": "convicted", "tier": tier, "by": failed}
                return
            known["passed"].append(mark)
        known["verdict"] = "survived"
    except DoesNotBuild:
        known["verdict"] = "does not build"
    finally:
        path.write_text(mutant.before)


def read_explained():
    if not EXPLAINED.is_file():
        return {}
    found = tomllib.loads(EXPLAINED.read_text()).get("survivor", [])
    for each in found:
        if set(each) != {"mutant", "why"}:
            fail(f"{EXPLAINED.relative_to(ROOT)}: {each.get('mutant')} has {', '.join(each)}, and not mutant, why")
    return {each["mutant"]: each["why"] for each in found}


def table(found, known):
    head = ["folder", "of", "tried", *TIERS, "do not build", "survived"]
    rows = [head, ["---", *["--:"] * (len(head) - 1)]]
    sums = collections.Counter()
    for folder, every in found.items():
        tried = [known[mutant.name] for mutant in every if "verdict" in known.get(mutant.name, {})]
        verdicts = collections.Counter(each["verdict"] for each in tried)
        tiers = collections.Counter(each.get("tier") for each in tried)
        row = [len(every), len(tried), *(tiers[tier] for tier in TIERS), verdicts["does not build"], verdicts["survived"]]
        sums.update(dict(enumerate(row)))
        rows.append([f"`src/{folder}`", *map(str, row)])
    rows.append(["all", *(str(sums[column]) for column in range(len(head) - 1))])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write_page(found, known, explained, options):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
    text = HEAD.read_text() + "\n## The pass\n\n"
    text += f"Written at commit {commit}; {options.seeds} seeds of the simulator for a mutant.\n\n"
    text += table(found, known) + "\n## Survivors\n\nA tier that is not named was not tried.\n\n| mutant | passes | why nobody is hurt |\n| --- | --- | --- |\n"
    cell = lambda text: " ".join(text.split()).replace("|", "\\|")
    for name, each in sorted(known.items()):
        if each.get("verdict") == "survived":
            passed = ", ".join(each["passed"] + [f"not always {cell(test)}" for test in each.get("at times", [])])
            text += f"| `{cell(name)}` | {passed} | {cell(explained.get(name, '**not explained**'))} |\n"
    text += "\n## Survived at first\n\nThe tiers that were tried then, or the tests of then. What convicts them now:\n\n"
    text += "| mutant | by |\n| --- | --- |\n"
    for name, each in sorted(known.items()):
        if each.get("survived once") and each.get("verdict") == "convicted":
            text += f"| `{cell(name)}` | {each['tier']}: `{each['by']}` |\n"
    PAGE.write_text(text)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sample", type=int, default=100, help="mutants of each folder")
    options.add_argument("--mutants", type=str.split, default=[], help="only those whose names contain one of these words, again")
    options.add_argument("--tiers", type=lambda text: text.split(","), default=list(TIERS), help="only these, by commas")
    options.add_argument("--seeds", type=int, default=1000, help="seeds of the simulator for a mutant")
    options.add_argument("--timeout", type=int, default=300, help="seconds that a tier may take")
    options.add_argument("--again", action="store_true", help="forget what was found before")
    options.add_argument("--page", action="store_true", help="only write the page of what is known")
    options = options.parse_args()
    if set(options.tiers) - set(TIERS):
        fail(f"the tiers are {', '.join(TIERS)}")
    mutants.KEPT.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("mutants-sampled: ended by SIGTERM"))
    mutants.copy_tree()
    found, explained = list_mutants(), read_explained()
    known = json.loads(KNOWN.read_text()) if KNOWN.is_file() and not options.again else {}
    # One of each folder in turn, so that a pass that is stopped has something of each.
    order = [each[place] for place in range(options.sample) for each in found.values() if place < len(each)]
    if options.mutants:
        order = [mutant for mutant in order if any(word in mutant.name for word in options.mutants)]
        for mutant in order:
            before = known.pop(mutant.name, {})
            if before.get("survived once") or before.get("verdict") == "survived":
                known[mutant.name] = {"passed": [], "survived once": True}
    if not order:
        fail(f"no mutant of the sample is called {' or '.join(options.mutants)}")
    for number, mutant in enumerate([] if options.page else order, 1):
        of_it = known.setdefault(mutant.name, {"passed": []})
        passed = len(of_it["passed"])
        if of_it.get("verdict") in ("convicted", "does not build"):
            continue
        started = time.monotonic()
        LOG.unlink(missing_ok=True)
        judge(mutant, of_it, options)
        if "tier" in of_it or len(of_it["passed"]) > passed:
            said = f"{of_it['verdict']} {of_it.get('tier', '')} {of_it.get('by', '')}".strip()
            print(f"{number}/{len(order)} {mutant.name} ... {said} ({time.monotonic() - started:.0f} s)", flush=True)
        KNOWN.write_text(json.dumps(known, indent=1))
    names = {mutant.name for mutant in order}
    if not options.mutants:
        write_page(found, {name: known[name] for name in names if name in known}, explained, options)
    open_ones = [name for name in names if known.get(name, {}).get("verdict") == "survived" and name not in explained]
    for name in sorted(open_ones):
        print(f"LIVES: {name}")
    print(table(found, known))
    sys.exit(1 if open_ones else 0)


if __name__ == "__main__":
    main()
