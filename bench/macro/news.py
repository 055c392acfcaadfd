#!/usr/bin/env python3
"""Measures how late news of sales are on other hosts; writes bench/runs/<date>-<machine>/: news.jsonl, news.md.

    make bench-news                                                  # builds, then runs this
    bench/macro/news.py --binary old/boxoffice --binary target/release/boxoffice   # before and after
    bench/macro/news.py --sales 2000 --hosts 2 --trials 5                  # a small part of it
    bench/macro/news.py --holds with --binary old/boxoffice                # in parts: news.md is of all in news.jsonl

Hosts of one loop each on one Redis with many sales, once without holds and once where every sale has an unpaid booking.
A trial makes one change and asks every host in turn, without a pause, until each has it:

- a new sale: opened by the command line's way (SADD and the script, by an operator's PUT on the first host), until no host
  says 404;
- a raised total of a sale that is sold out, until every host says that tickets are left;
- a returned ticket of a sale that is sold out, likewise.

Each trial has a sale of its own. Then nothing is asked for some seconds: what the hosts cost Redis meanwhile (commands by
INFO, CPU time of the process), and what they cost themselves.

Last, many sales are opened at once, by a client of Redis of its own, and it is told when the last is known everywhere.

Python's standard library only.
"""

import argparse
import json
import pathlib
import re
import socket
import statistics
import tempfile
import time

import servers
from servers import ROOT, fail


class Pipe:
    """A kept-alive connection to a host."""

    def __init__(self, port):
        self.port = port
        self.connect()

    def connect(self):
        self.stream = socket.create_connection(("127.0.0.1", self.port), 10)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""
        self.left = 50_000  # a host closes a connection that has asked twice as much

    def ask(self, target, method="GET", body="", fields=""):
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.left -= 1
        if self.left == 0:
            self.stream.close()
            self.connect()
        self.stream.sendall(f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}{length}\r\n{body}".encode())
        while True:
            head, mark, rest = self.rest.partition(b"\r\n\r\n")
            if mark:
                size = int(re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)[1])
                if len(rest) >= size:
                    self.rest = rest[size:]
                    return int(head.split(b" ", 2)[1]), rest[:size]
            more = self.stream.recv(65536)
            if not more:
                fail(f"no answer to {method} {target}")
            self.rest += more


class Commands:
    """A connection to Redis that sends many commands at once."""

    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), 30)
        self.file = self.stream.makefile("rb")

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:].strip()
        if kind == b"-":
            fail(f"Redis says {rest.decode()}")
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return rest

    def all(self, commands):
        replies = []
        for at in range(0, len(commands), 500):
            some = commands[at : at + 500]
            packed = []
            for words in some:
                packed.append(b"*%d\r\n" % len(words))
                for word in words:
                    word = str(word).encode()
                    packed.append(b"$%d\r\n%s\r\n" % (len(word), word))
            self.stream.sendall(b"".join(packed))
            replies += [self.reply() for _ in some]
        return replies


def open_directly(commands, folder, binary, url, names, stock, hold):
    """Opens sales with the scripts of that very binary: it opens one, and what it sent is sent again for the others."""
    monitor = Commands(commands.stream.getpeername()[1])
    monitor.stream.sendall(b"*1\r\n$7\r\nMONITOR\r\n")
    monitor.reply()
    words = [binary, "sale", "open", names[0], "--stock", stock, "--ledger", url]
    if hold:
        words += ["--hold", hold]
    said = servers.command_line(*map(str, words))
    script = None
    while script is None:
        line = monitor.file.readline().decode()
        if '"EVALSHA"' in line:
            script = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
    monitor.stream.close()
    if names[0] not in "".join(script):
        fail(f"the first sale was not opened: {said}")
    many = []
    for name in names[1:]:
        many.append(["SADD", "bx:sales", name])
        many.append([word.replace(f"{{{names[0]}}}", f"{{{name}}}") for word in script])
    commands.all(many)


def late(pipes, target, has_it, begin):
    """Milliseconds from `begin` until the last of the hosts has it."""
    waiting = list(pipes)
    while waiting:
        waiting = [pipe for pipe in waiting if not has_it(*pipe.ask(target))]
        if time.monotonic() - begin > 180:
            fail(f"{len(waiting)} hosts do not know it after 180 s: {target}")
    return (time.monotonic() - begin) * 1000


def is_there(status, _):
    return status == 200


def is_on_sale(status, body):
    return status == 200 and json.loads(body)["available"] > 0


def expect(answer, *statuses):
    if answer[0] not in statuses:
        fail(f"{answer}")


def trials(options, hosts, pipes, hold):
    first, operator = pipes[0], Pipe(hosts[0].admin)
    results = {"a new sale": [], "a raised total": [], "a returned ticket": []}
    sold_out = lambda status, body: status == 200 and json.loads(body)["available"] == 0
    terms = ',"hold_seconds":600' if hold else ""
    for number in range(options.trials):
        name = f"news-{number}"
        target = f"/v1/sales/{name}"
        begin = time.monotonic()
        expect(operator.ask(target, "PUT", f'{{"total":1{terms}}}'), 200, 201)
        results["a new sale"].append(late(pipes[1:], target, is_there, begin))
        expect(first.ask(f"{target}/bookings/one-{number}", "PUT", '{"quantity":1}'), 200, 201)
        late(pipes, target, sold_out, time.monotonic())
        time.sleep(0.37 + 0.013 * (number % 10))
        begin = time.monotonic()
        expect(operator.ask(target, "PUT", '{"total":2}'), 200)
        results["a raised total"].append(late(pipes[1:], target, is_on_sale, begin))
        expect(first.ask(f"{target}/bookings/two-{number}", "PUT", '{"quantity":1}'), 200, 201)
        late(pipes, target, sold_out, time.monotonic())
        time.sleep(0.41 + 0.017 * (number % 10))
        begin = time.monotonic()
        expect(first.ask(f"{target}/bookings/one-{number}", "DELETE"), 200)
        results["a returned ticket"].append(late(pipes[1:], target, is_on_sale, begin))
    return results


def idle(options, redis, hosts):
    """What all of it costs in a second in which nobody asks for anything."""
    time.sleep(2)
    total = lambda: int(re.search(r"total_commands_processed:(\d+)", redis.command("info", "stats"))[1])
    commands, redis_cpu = total(), sum(redis.process.cpu())
    own, begin = [sum(host.process.cpu()) for host in hosts], time.monotonic()
    time.sleep(options.idle)
    seconds = time.monotonic() - begin
    own = [sum(host.process.cpu()) - before for host, before in zip(hosts, own)]
    return {
        "commands a second and host": (total() - commands) / seconds / len(hosts),
        "CPU of Redis, ms a second and host": (sum(redis.process.cpu()) - redis_cpu) / seconds * 1000 / len(hosts),
        "CPU of a host, ms a second": statistics.mean(own) / seconds * 1000,
    }


def measure(options, binary, folder, hold):
    processes = []
    try:
        redis = servers.Redis(folder, "redis")
        processes.append(redis.process)
        url = f"redis://127.0.0.1:{redis.port}"
        commands = Commands(redis.port)
        names = [f"sale-{number}" for number in range(options.sales)]
        open_directly(commands, folder, binary, url, names, 1, "10m" if hold else None)
        hosts = []
        for number in range(options.hosts):
            host = servers.Boxoffice(folder, f"boxoffice-{number}", binary, url, sales=(), options=["--cores", "0", "--no-pin"])
            processes.append(host.process)
            hosts.append(host)
        pipes = [Pipe(host.port) for host in hosts]
        if hold:
            for number, name in enumerate(names):
                expect(pipes[number % len(pipes)].ask(f"/v1/sales/{name}/bookings/b-{number}", "PUT", '{"quantity":1}'), 200, 201)
            time.sleep(3)
        result = {"late_ms": trials(options, hosts, pipes, hold), "idle": idle(options, redis, hosts)}
        if not hold:
            names = [f"flood-{number}" for number in range(options.flood)]
            begin = time.monotonic()
            open_directly(commands, folder, binary, url, names, 1, None)
            opened = time.monotonic()
            # A hundredth of them, and those opened last: to ask for all takes longer than to hear of them. Afterwards all.
            unknown = {pipe: names[::100] + names[-50:] for pipe in pipes}
            while any(unknown.values()):
                for pipe, left in unknown.items():
                    unknown[pipe] = [name for name in left if not is_there(*pipe.ask(f"/v1/sales/{name}"))] if left else left
                if time.monotonic() - begin > options.patience:
                    break
            result["flood_ms"] = (time.monotonic() - opened) * 1000
            left = [[name for name in names if not is_there(*pipe.ask(f"/v1/sales/{name}"))] for pipe in pipes]
            result["flood_left"] = max(map(len, left))
            result["flood_opening_ms"] = (opened - begin) * 1000
        return result
    finally:
        for process in reversed(processes):
            process.end()


def summary(facts, options, results):
    lines = [
        f"# News, {facts['date']}, {facts['cores']} cores",
        "",
        f"{facts['cpu']}, Linux {facts['kernel']}, Redis {facts['redis']}.",
        f"{options.hosts} hosts of one loop, one Redis, {options.sales:,} sales, all on these cores; {options.trials} trials. "
        "`bench/macro/news.py` says how; `news.jsonl` has every trial. A host asks 5 times a second what has changed.",
        "",
    ]
    for hold in (False, True):
        some = [each for each in results if each["hold"] == hold]
        if not some:
            continue
        lines += [f"## {'Each sale has an unpaid booking' if hold else 'Without holds'}", ""]
        lines += ["| | " + " | ".join(each["what"] for each in some) + " |", "| --- |" + " ---: |" * len(some)]
        for name in some[0]["late_ms"]:
            for word, figure in (("median", statistics.median), ("worst", max)):
                cells = [f"{figure(each['late_ms'][name]):,.0f}" for each in some]
                lines.append(f"| {name} is known on every host, ms, {word} | " + " | ".join(cells) + " |")
        for name in some[0]["idle"]:
            lines.append(f"| idle: {name} | " + " | ".join(f"{each['idle'][name]:,.1f}" for each in some) + " |")
        if not hold:
            told = lambda each: f"{each['flood_ms'] / 1000:,.1f}" + (
                f", and {each['flood_left']:,} are not" if each["flood_left"] else ""
            )
            lines.append(
                f"| {options.flood:,} sales opened at once are known on every host, s after the last was opened | "
                + " | ".join(map(told, some)) + " |"
            )
        lines.append("")
    return "\n".join(lines)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sales", type=int, default=20_000)
    options.add_argument("--hosts", type=int, default=8)
    options.add_argument("--trials", type=int, default=30)
    options.add_argument("--flood", type=int, default=20_000, help="sales opened at once")
    options.add_argument("--patience", type=int, default=120, help="seconds after which a flood is not waited for any more")
    options.add_argument("--idle", type=int, default=10, help="seconds")
    options.add_argument("--holds", choices=("without", "with", "both"), default="both")
    options.add_argument("--binary", type=pathlib.Path, action="append", help="again for each to compare")
    options.add_argument("--out", type=pathlib.Path, help="folder to write to instead of bench/runs/<date>-<machine>")
    options = options.parse_args()
    binaries = options.binary or [ROOT / "target/release/boxoffice"]
    for file in binaries:
        if not file.exists():
            fail(f"{file} is missing; `make bench-news` makes it")
    facts = servers.machine()
    out = options.out or servers.runs_folder(facts)
    scratch = ROOT / "target/bench"
    scratch.mkdir(parents=True, exist_ok=True)
    results = []
    for hold in {"without": [False], "with": [True], "both": [False, True]}[options.holds]:
        for binary in binaries:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                result = measure(options, binary.resolve(), pathlib.Path(folder), hold)
            results.append({"what": binary.name, "hold": hold, **result})
            print(json.dumps(results[-1]), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "news.jsonl", "a", encoding="utf-8") as raw:
        raw.write(json.dumps({**facts, **{word: getattr(options, word) for word in ("sales", "hosts", "trials", "flood")}}) + "\n")
        raw.writelines(json.dumps(each) + "\n" for each in results)
    # Of earlier parts of the run, too.
    with open(out / "news.jsonl", encoding="utf-8") as raw:
        results = [each for each in map(json.loads, raw) if "late_ms" in each]
    text = summary(facts, options, results)
    (out / "news.md").write_text(text)
    print(f"\n{text}\nwritten to {out}")


if __name__ == "__main__":
    main()
