#!/usr/bin/env python3
"""Measures what TLS between a host and its Redis costs; writes bench/runs/<date>-<machine>/: tls.jsonl, tls.md.

    make bench-tls                                      # builds, then runs this
    bench/macro/tls.py --rounds 1 --seconds 1           # a small part of it

One Redis with a plain port and one for TLS, and a host on each in turn, so that what changes on the machine meets both. What is
measured is CPU time a booking, of host and Redis together: once by many connections, whose bookings share calls, and once by a
single one, each of whose bookings is a call of its own. The certificates are of P-256, the version is TLS 1.3.

Python's standard library and the `openssl` command.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import servers
from measuring import measure, words_of
from servers import HUGE, ROOT, fail
from stand import Target

LOADS = {"256 connections": 256, "1 connection": 1}
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(folder, *words):
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        fail(f"openssl {words[0]}: {done.stderr.strip()}")


def certificates(folder):
    """ca.pem, and redis.pem with redis.key, which it signed for 127.0.0.1."""
    openssl(folder, "req", "-x509", *NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=a CA")
    openssl(folder, "req", *NEW_KEY, "-keyout", "redis.key", "-out", "redis.csr", "-subj", "/CN=redis")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    words = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
    openssl(folder, "x509", "-req", "-in", "redis.csr", "-out", "redis.pem", *words)


def start_redis(folder):
    certificates(folder)
    port = servers.free_port()
    files = ("--tls-cert-file", folder / "redis.pem", "--tls-key-file", folder / "redis.key")
    trust = ("--tls-ca-cert-file", folder / "ca.pem", "--tls-auth-clients", "no")
    return servers.Redis(folder, "redis", "--appendonly", "no", "--tls-port", port, *files, *trust), port


def trial(options, folder, redis, ledger, flags, connections, number):
    redis.command("flushall")
    host = servers.Boxoffice(folder, f"host-{number}", options.binary, ledger, (f"ticket={HUGE}",), flags)
    try:
        words = words_of(connections, kind="put", sale="ticket", seconds=options.seconds, prefix=f"t{number}", **{"warm-up": connections})
        return measure(options.load, Target(host, [redis]), words, "granted", host.sold)
    finally:
        host.process.end()


def median(results, load, way, figure):
    return statistics.median(each[figure] for each in results if each["load"] == load and each["way"] == way)


def summary(facts, options, results):
    lines = [
        "# What TLS with Redis costs\n",
        f"{facts['cpu']}, Linux {facts['kernel']}; boxoffice {facts['commit']}, Redis {facts['redis']}. Medians of {options.rounds} rounds of "
        f"{options.seconds} s in which both take turns; CPU time in us a booking. {options.note or ''}\n",
        "| load | way | bookings/s | host | Redis | both | times plain |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for load in LOADS:
        for way in ("plain", "TLS"):
            figures = [median(results, load, way, name) for name in ("per_second", "server_us", "redis_us", "cpu_us")]
            ratio = figures[-1] / median(results, load, "plain", "cpu_us")
            rate, *costs = figures
            lines.append(f"| {load} | {way} | {rate:,.0f} | {' | '.join(f'{cost:.1f}' for cost in costs)} | {ratio:.2f} |")
    return "\n".join(lines) + "\n"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=4)
    options.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/boxoffice")
    options.add_argument("--load", type=pathlib.Path, default=ROOT / "target/release/examples/load")
    options.add_argument("--note", help="what is to be said of the run")
    options.add_argument("--out", type=pathlib.Path, help="folder to write to instead of bench/runs/<date>-<machine>")
    options = options.parse_args()
    for file in (options.binary, options.load):
        if not file.exists():
            fail(f"{file} is missing; `make bench-tls` makes it")
    options.binary, options.load = options.binary.resolve(), options.load.resolve()
    facts = servers.machine()
    out = options.out or servers.runs_folder(facts)
    scratch = ROOT / "target/bench"
    scratch.mkdir(parents=True, exist_ok=True)
    results = []
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        folder = pathlib.Path(folder)
        redis, port = start_redis(folder)
        try:
            ways = {
                "plain": (f"redis://127.0.0.1:{redis.port}/0", ()),
                "TLS": (f"rediss://127.0.0.1:{port}/0", ("--ledger-ca", folder / "ca.pem")),
            }
            for number in range(options.rounds):
                for load, connections in LOADS.items():
                    for way, (ledger, flags) in ways.items():
                        seen = trial(options, folder, redis, ledger, flags, connections, len(results))
                        results.append({"load": load, "way": way, "round": number, **seen})
                        print(f"{load}, {way}: {seen['per_second']:,.0f}/s, {seen['cpu_us']:.1f} us", flush=True)
        finally:
            redis.process.end()
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "tls.jsonl", "w", encoding="utf-8") as raw:
        words = ("rounds", "seconds", "note")
        raw.write(json.dumps({**facts, **{word: getattr(options, word) for word in words}}) + "\n")
        raw.writelines(json.dumps(each) + "\n" for each in results)
    text = summary(facts, options, results)
    (out / "tls.md").write_text(text)
    print(f"\n{text}\nwritten to {out}")


if __name__ == "__main__":
    main()
