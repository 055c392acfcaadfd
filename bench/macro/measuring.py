"""One measurement: a load against a server, and the CPU time that server, Redis and load spent on it, from /proc."""

import json
import os
import pathlib
import subprocess
import time

from servers import TICKS

THREADS = 2  # of the load
CONNECTIONS = 256
OTHERS_PERCENT_MAX = 10  # a run in which others took more of the machine is tried again


class Failed(Exception):
    """A case that did not do what it must; the run goes on, and ends with status 1."""


class Load:
    """One run of bench/load that waits, connected, until it is told to begin."""

    def __init__(self, program, port, words):
        command = [program, "drive", "--paced", "--to", f"127.0.0.1:{port}", *words]
        self.child = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.expect_ready()

    def expect_ready(self):
        if self.child.stdout.readline() != "ready\n":
            raise Failed(f"the load ended with {self.child.communicate()[1].strip()}")

    def drive(self):
        self.child.stdin.write("go\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise Failed(f"the load ended with {self.child.communicate()[1].strip()}")
        return json.loads(line)

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def end(self):
        if self.child.poll() is None:
            try:
                self.child.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def machine_cpu():
    """Seconds of all cores so far: in all, and busy in processes or taken by other machines."""
    user, nice, system, idle, waiting, irq, softirq, stolen = (
        int(word) / TICKS for word in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    busy = user + nice + system + irq + softirq + stolen
    return busy + idle + waiting, busy


def cpu_of(processes):
    each = [process.cpu() for process in processes]
    return [sum(user for user, _ in each), sum(system for _, system in each)]


def amount(count, noun):
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def words_of(connections=CONNECTIONS, **options):
    """The load's words for these options."""
    words = ["--connections", connections, "--threads", min(THREADS, connections)]
    for name, value in options.items():
        words += [f"--{name}"] if value is True else [f"--{name}", value]
    return words


def measure(program, target, words, expect, sold=None):
    """Drives one load. `target` has port, process (the server), redis (the ones that work for it, maybe none). Checks
    that every answer is what is expected: "granted", "sold-out", a number of granted ones, or "mixed"."""
    load = Load(program, target.port, words)
    try:
        sold_before = sold() if sold else None
        time.sleep(0.15)  # the server has taken the connections too
        redis = [each.process for each in target.redis]
        calls_before = sum(each.calls() for each in target.redis)
        before = cpu_of([target.process]), cpu_of(redis), load.cpu(), machine_cpu()
        seen = load.drive()
        after = cpu_of([target.process]), cpu_of(redis), load.cpu(), machine_cpu()
        calls = sum(each.calls() for each in target.redis) - calls_before
        check(seen, expect)
        if sold and (counted := sold() - sold_before) != seen["granted"]:
            raise Failed(f"{seen['granted']} were told that they have a ticket, and {counted} were sold")
    finally:
        load.end()
    return figures(seen, before, after, calls, bool(redis))


def check(seen, expect):
    told = {name: value for name, value in seen.items() if name not in ("curve_us", "latency_us")}
    answered, granted, sold_out = seen["answered"], seen["granted"], seen["sold_out"]
    if not answered or seen["broken"] or seen["unanswered"]:
        raise Failed(f"not all requests were answered: {told}")
    right = {
        "granted": granted == answered,
        "sold-out": sold_out == answered,
        "mixed": granted > 0 and set(seen["statuses"]) <= {"200", "201"},
    }.get(expect, granted == expect and granted + sold_out == answered)
    if not right:
        raise Failed(f"the answers are not all {expect}: {told}")


def figures(seen, before, after, calls, has_redis):
    answered = seen["answered"]
    each_us = lambda spent: spent / answered * 1e6
    server = [later - earlier for earlier, later in zip(before[0], after[0])]
    redis = [later - earlier for earlier, later in zip(before[1], after[1])]
    load = after[2] - before[2]
    whole, busy = [later - earlier for earlier, later in zip(before[3], after[3])]
    return {
        "answered": answered,
        "granted": seen["granted"],
        "seconds": seen["seconds"],
        "per_second": seen["per_second"],
        "latency_us": seen["latency_us"],
        "curve_us": seen["curve_us"],
        "server_user_us": each_us(server[0]),
        "server_system_us": each_us(server[1]),
        "server_us": each_us(sum(server)),
        "redis_us": each_us(sum(redis)) if has_redis else None,
        "cpu_us": each_us(sum(server) + sum(redis)),
        "load_us": each_us(load),
        "load_cores": load / seen["seconds"],
        "calls": calls if has_redis else None,
        "calls_each": calls / answered if has_redis else None,
        "others_percent": max(0.0, (busy - sum(server) - sum(redis) - load) / whole * 100) if whole else 0.0,
        "load_average": os.getloadavg()[0],
    }
