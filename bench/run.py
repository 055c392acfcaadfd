#!/usr/bin/env python3
"""Measures boxoffice beside its peers and writes bench/runs/<date>-<machine>/: raw.jsonl and summary.md.

    make bench                                 # builds, then runs this
    bench/run.py --rounds 3 --only soldout     # a part of it

What is measured: sold-out answers a second and bookings a second, by wrk over loopback, on both ledgers, with the CPU
time that the server and Redis spend a request (user + system, of all their threads or processes, from /proc).
Beside it, in the same run: a bare epoll loop that answers the very bytes of a sold-out answer, nginx that answers
a constant, and nginx with Lua and Redis, one EVALSHA an order.

How: every server is up all the time; the cases take turns, round after round, each round in another order, so that a
slow minute of a shared machine falls on all of them. A run in which other processes or machines took much of the CPU
time is tried again, and the quietest try counts. Figures are medians over the rounds; a ratio is the median of the
ratios within a round. On a machine whose cores wrk shares, requests a second say as much of wrk as of the server; the
CPU time a request is the server's own.

Python's standard library only.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

BENCH = pathlib.Path(__file__).resolve().parent
ROOT = BENCH.parent
TICKS = os.sysconf("SC_CLK_TCK")
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
OTHERS_PERCENT_MAX = 10  # a run in which others took more of the machine is tried again,
TRIES = 4  # this often in all
HUGE = 100_000_000_000  # a stock that no run sells out


def fail(problem):
    sys.exit(f"bench: {problem}")


def find(command):
    return shutil.which(command, path=PATH) or fail(f"{command} is missing; `make setup-bench` installs it")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            fail(f"{process.args[0]} ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    fail(f"{process.args[0]} does not listen on port {port}")


class Process:
    """A server of ours: started here, counted here, ended here by its id."""

    def __init__(self, arguments, folder, name):
        self.name = name
        self.log = open(folder / f"{name}.log", "wb")
        self.child = subprocess.Popen(
            [str(word) for word in arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if name.startswith(("boxoffice", "epoll")) else self.log,
            stderr=self.log,
        )

    def lines_until(self, last):
        lines = []
        for line in self.child.stdout:
            lines.append(line.decode().strip())
            if lines[-1] == last:
                return lines
        self.child.wait()
        fail(f"{self.name} ended with status {self.child.returncode}: see {self.log.name}")

    def cpu(self):
        """User and system seconds of the process and its children so far."""
        user = system = 0
        for pid in [self.child.pid, *children(self.child.pid)]:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            user += int(fields[11])
            system += int(fields[12])
        return user / TICKS, system / TICKS

    def end(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def children(pid):
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def get(port, target):
    """The whole answer to one GET, as bytes."""
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += client.recv(65536) or fail(f"no answer to GET {target}")
        head, body = answer.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)[1])
        while len(body) < length:
            body += client.recv(65536) or fail(f"half an answer to GET {target}")
        return head + b"\r\n\r\n" + body


class Redis:
    def __init__(self, folder, name, *options):
        self.port = free_port()
        home = folder / name
        home.mkdir()
        arguments = [find("redis-server"), "--port", self.port, "--bind", "127.0.0.1", "--dir", home, "--save", ""]
        self.process = Process([*arguments, *options], folder, name)
        wait_for_port(self.port, self.process.child)

    def command(self, *words):
        command = [find("redis-cli"), "-p", str(self.port), *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Boxoffice:
    def __init__(self, folder, name, binary, ledger):
        home = folder / name
        home.mkdir()
        self.process = Process(
            [binary, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ledger", ledger.format(home=home)]
            + ["--sale", f"ticket={HUGE}", "--sale", "gone=1"],
            folder,
            name,
        )
        lines = self.process.lines_until("ready")
        listening = next(line for line in lines if line.startswith("listening on "))
        self.port = int(re.search(r":(\d+)", listening)[1])
        self.loops = int(re.search(r"\((\d+) loop", listening)[1])
        deadline = time.monotonic() + 5
        while b'"code":-1' not in get(self.port, "/buy/gone"):
            if time.monotonic() > deadline:
                fail(f"{name} does not sell out")

    def sold(self):
        time.sleep(0.5)  # more than a sync, so that what it tells is what the ledger has
        return json.loads(get(self.port, "/v1/sales/ticket").split(b"\r\n\r\n", 1)[1])["sold"]


class Case:
    """One thing measured: a target of a server, and what its answers must have done."""

    def __init__(self, name, port, target, server, redis=None, script=None, sold=None):
        self.name, self.port, self.target = name, port, target
        self.server, self.redis, self.script, self.sold = server, redis, script, sold

    def run(self, seconds, connections, prefix):
        command = [find("wrk"), "-t2", f"-c{connections}", f"-d{seconds}s", "--latency"]
        if self.script:
            command += ["-s", str(self.script)]
        command.append(f"http://127.0.0.1:{self.port}{self.target}")
        if self.script:
            command += ["--", prefix]
        sold_before = self.sold() if self.sold else 0
        before, machine_before = self.cpu(), machine_cpu()
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60).stdout
        after, machine_after = self.cpu(), machine_cpu()
        sold = self.sold() - sold_before if self.sold else None
        requests, elapsed = re.search(r"(\d+) requests in ([\d.]+)s", output).groups()
        requests = int(requests)
        spent = [later - earlier for earlier, later in zip(before, after)]
        whole, busy, wrk = [later - earlier for earlier, later in zip(machine_before, machine_after)]
        errors = re.search(r"Socket errors: (.*)", output)
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        result = {
            "case": self.name,
            "requests": requests,
            "per_second": float(re.search(r"Requests/sec: *([\d.]+)", output)[1]),
            "seconds": float(elapsed),
            "p50_ms": latency(output, 50),
            "p99_ms": latency(output, 99),
            "server_user_us": spent[0] / requests * 1e6,
            "server_system_us": spent[1] / requests * 1e6,
            "redis_us": (spent[2] + spent[3]) / requests * 1e6 if self.redis else None,
            "others_percent": max(0.0, (busy - sum(spent) - wrk) / whole * 100),
            "sold": sold,
            "errors": errors[1] if errors else None,
            "non_2xx": int(refused[1]) if refused else 0,
        }
        result["server_us"] = result["server_user_us"] + result["server_system_us"]
        # wrk leaves with requests on the way: each connection's last one is sold but not counted.
        if sold is not None and not requests <= sold <= requests + connections and not errors:
            fail(f"{self.name}: wrk counted {requests} answers, {sold} were sold\n{output}")
        if result["non_2xx"]:
            fail(f"{self.name}: wrk met refusals\n{output}")
        return result

    def cpu(self):
        return [*self.server.cpu(), *(self.redis.process.cpu() if self.redis else ())]


def machine_cpu():
    """Seconds of all cores: in all, busy in processes or taken by other machines, and busy in wrk so far."""
    user, nice, system, idle, waiting, irq, softirq, stolen = (
        int(word) / TICKS for word in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    children = os.times()
    busy = user + nice + system + irq + softirq + stolen
    return busy + idle + waiting + irq + softirq, busy, children.children_user + children.children_system


def latency(output, percent):
    found = re.search(rf"^ +{percent}% +([\d.]+)(us|ms|s) *$", output, re.M)
    if not found:
        return None  # wrk says nan or nothing where it was itself starved
    value, unit = found.groups()
    return float(value) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def start(folder, binary, processes):
    """Starts everything; gives the cases."""

    def started(server):
        processes.append(server.process)
        return server

    # Two Redis for boxoffice's durability and for none, each with boxoffice and the peer on it in turn.
    memory = started(Redis(folder, "redis-memory", "--appendonly", "no"))
    always = started(Redis(folder, "redis-always", "--appendonly", "yes", "--appendfsync", "always"))
    cases = []
    boxes = {}
    for name, ledger, redis in (
        ("sqlite", "sqlite:{home}/boxoffice.db", None),
        ("redis", f"redis://127.0.0.1:{memory.port}/0", memory),
        ("redis-fsync", f"redis://127.0.0.1:{always.port}/0", always),
    ):
        box = boxes[name] = started(Boxoffice(folder, f"boxoffice-{name}", binary, ledger))
        if name != "redis-fsync":
            cases.append(Case(f"soldout boxoffice {name}", box.port, "/buy/gone", box.process, redis))
        for kind, target, script in (("buy", "/buy/ticket", None), ("put", "/", BENCH / "load/put.lua")):
            cases.append(
                Case(f"booking {kind} boxoffice {name}", box.port, target, box.process, redis, script, box.sold)
            )

    # The very same bytes, with a Date of the start.
    (folder / "answer").write_bytes(get(boxes["sqlite"].port, "/buy/gone"))
    floor = folder / "epoll"
    subprocess.run([find("cc"), "-O2", "-o", floor, BENCH / "peers/epoll.c"], check=True)
    loops, port = boxes["sqlite"].loops, free_port()
    epoll = Process([floor, port, loops, folder / "answer"], folder, "epoll")
    processes.append(epoll)
    epoll.lines_until("ready")
    cases.append(Case("soldout epoll", port, "/buy/gone", epoll))

    for name, redis in (("redis", memory), ("redis-fsync", always)):
        script = redis.command("script", "load", (BENCH / "peers/count.lua").read_text())
        redis.command("hset", "peer:stock", "total", HUGE, "sold", 0)
        home = folder / f"nginx-{name}"
        home.mkdir()
        port = free_port()
        configuration = (BENCH / "peers/nginx-lua.conf").read_text()
        modules = pathlib.Path("/usr/lib/nginx/modules")
        for word, value in (
            ("@LOOPS@", loops),
            ("@PORT@", port),
            ("@REDIS_PORT@", redis.port),
            ("@SCRIPT@", script),
            ("modules/", f"{modules}/"),
        ):
            configuration = configuration.replace(word, str(value))
        (home / "nginx.conf").write_text(configuration)
        nginx = Process([find("nginx"), "-p", home, "-c", home / "nginx.conf", "-e", home / "error.log"], folder, f"nginx-{name}")
        processes.append(nginx)
        wait_for_port(port, nginx.child)
        if b'"code":1' not in get(port, "/buy/ticket"):
            fail(f"nginx with Lua does not sell: see {home}/error.log")
        if name == "redis":
            cases.append(Case("soldout nginx", port, "/constant", nginx))
        sold = lambda redis=redis: int(redis.command("hget", "peer:stock", "sold"))
        cases.append(Case(f"booking buy nginx-lua {name}", port, "/buy/ticket", nginx, redis, None, sold))
    return cases


def command_line(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return (done.stdout + done.stderr).strip()


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    commit = command_line("git", "describe", "--always", "--dirty", "--exclude=*")
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "cores": os.cpu_count(),
        "cpu": cpu[1] if cpu else platform.machine(),
        "kernel": platform.release(),
        "redis": re.search(r"v=(\S+)", command_line(find("redis-server"), "--version"))[1],
        "nginx": command_line(find("nginx"), "-v").split("/")[-1],
        "wrk": command_line(find("wrk"), "-v").split()[1],
    }


def median_of(results, case, figure):
    values = [result[figure] for result in results if result["case"] == case and result[figure] is not None]
    return statistics.median(values) if values else None


def ratio_of(results, above, below, figure):
    """Median, least and greatest of the ratios within a round."""
    rounds = {}
    for result in results:
        rounds.setdefault(result["round"], {})[result["case"]] = result[figure]
    ratios = [cases[above] / cases[below] for cases in rounds.values() if above in cases and below in cases]
    return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None


RATIOS = (
    ("CPU a sold-out answer, sqlite / epoll", "soldout boxoffice sqlite", "soldout epoll", "server_us", "at most 1.2"),
    ("CPU a sold-out answer, redis / epoll", "soldout boxoffice redis", "soldout epoll", "server_us", "at most 1.2"),
    ("CPU a sold-out answer, sqlite / nginx", "soldout boxoffice sqlite", "soldout nginx", "server_us", ""),
    ("bookings/s, redis / nginx-lua", "booking buy boxoffice redis", "booking buy nginx-lua redis", "per_second", "at least 2"),
    (
        "bookings/s with fsync always, redis / nginx-lua",
        "booking buy boxoffice redis-fsync",
        "booking buy nginx-lua redis-fsync",
        "per_second",
        "at least 2",
    ),
    ("server CPU a booking, redis / nginx-lua", "booking buy boxoffice redis", "booking buy nginx-lua redis", "server_us", ""),
    ("Redis CPU a booking, redis / nginx-lua", "booking buy boxoffice redis", "booking buy nginx-lua redis", "redis_us", ""),
)


def summary(facts, options, results):
    others = [result["others_percent"] for result in results]
    lines = [
        f"# {facts['date']}, {facts['cores']} cores",
        "",
        f"{facts['cpu']}, Linux {facts['kernel']}; boxoffice {facts['commit']}, Redis {facts['redis']}, "
        f"nginx {facts['nginx']}, wrk {facts['wrk']}.",
        f"{options.rounds} rounds of {options.seconds} s a case, {options.connections} connections; wrk on the same cores. "
        "`bench/run.py` says how; `raw.jsonl` has every run.",
        f"Others took {statistics.median(others):.0f}% of the machine in the median run, {max(others):.0f}% in the worst.",
        "",
        "Medians. CPU is user + system time a request, in microseconds.",
        "",
        "| case | requests/s | least to most | p50 ms | p99 ms | server CPU us | user | system | Redis CPU us |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case in sorted({result["case"] for result in results}, key=lambda name: (name.split()[0] != "soldout", name)):
        each = [result["per_second"] for result in results if result["case"] == case]
        figure = lambda name: median_of(results, case, name)
        redis_us = figure("redis_us")
        lines.append(
            f"| {case} | {figure('per_second'):,.0f} | {min(each):,.0f} to {max(each):,.0f} | {figure('p50_ms'):.2f} "
            f"| {figure('p99_ms'):.2f} | {figure('server_us'):.2f} | {figure('server_user_us'):.2f} "
            f"| {figure('server_system_us'):.2f} | {'' if redis_us is None else f'{redis_us:.2f}'} |"
        )
    lines += ["", "| ratio, within a round | median | least to most | aim |", "| --- | ---: | ---: | --- |"]
    for title, above, below, figure, aim in RATIOS:
        ratio = ratio_of(results, above, below, figure)
        if ratio:
            lines.append(f"| {title} | {ratio[0]:.2f} | {ratio[1]:.2f} to {ratio[2]:.2f} | {aim} |")
    return "\n".join(lines) + "\n"


def quietest(case, options, round_number, tries):
    """Runs the case until others leave it alone, a few times at most; gives the try in which they took least. A try in
    which wrk met an error, as when it or the server was starved for seconds, does not count."""
    first = len(tries)
    for number in range(TRIES):
        result = case.run(options.seconds, options.connections, f"round-{round_number}-{number}")
        tries.append({"round": round_number, "try": number, **result})
        if result["others_percent"] <= OTHERS_PERCENT_MAX and not result["errors"]:
            break
        time.sleep(options.seconds)
    clean = [result for result in tries[first:] if not result["errors"]]
    if not clean:
        fail(f"{case.name}: wrk met errors in each of {TRIES} tries: {tries[-1]['errors']}")
    return min(clean, key=lambda result: result["others_percent"])


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3, help="of load, each case, each round")
    options.add_argument("--connections", type=int, default=256)
    options.add_argument("--only", default="", help="only cases with this word in their name")
    options.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/boxoffice")
    options.add_argument("--out", type=pathlib.Path, help="folder to write to instead of bench/runs/<date>-<machine>")
    options = options.parse_args()
    if not options.binary.exists():
        fail(f"{options.binary} is missing; `cargo build --release` makes it")

    facts = machine()
    out = options.out or BENCH / "runs" / f"{facts['date']}-{facts['cores']}core-{platform.machine()}"
    scratch = ROOT / "target/bench"  # beside the build, on a real disk: /tmp may be memory
    scratch.mkdir(parents=True, exist_ok=True)
    tries, results, processes = [], [], []
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        try:
            cases = start(pathlib.Path(folder), options.binary.resolve(), processes)
            cases = [case for case in cases if options.only in case.name]
            for case in cases:
                case.run(1, options.connections, "warm")
            for round_number in range(options.rounds):
                turn = round_number % len(cases)
                for case in cases[turn:] + cases[:turn]:
                    result = quietest(case, options, round_number, tries)
                    results.append(result)
                    print(
                        f"{round_number} {case.name:36} {result['per_second']:10,.0f}/s "
                        f"{result['server_us']:7.2f} us server {result['redis_us'] or 0:6.2f} us Redis "
                        f"{result['others_percent']:4.0f}% others",
                        flush=True,
                    )
        finally:
            for process in reversed(processes):
                process.end()

    out.mkdir(parents=True, exist_ok=True)
    with open(out / "raw.jsonl", "w", encoding="utf-8") as raw:
        raw.write(json.dumps({**facts, "rounds": options.rounds, "seconds": options.seconds}) + "\n")
        raw.writelines(json.dumps({**each, "counts": each in results}) + "\n" for each in tries)
    (out / "summary.md").write_text(summary(facts, options, results))
    print(f"\n{summary(facts, options, results)}\nwritten to {out}")


if __name__ == "__main__":
    main()
