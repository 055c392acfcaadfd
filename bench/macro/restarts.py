#!/usr/bin/env python3
"""Measures what a restart costs those who connect meanwhile; writes bench/runs/<date>-<machine>/: restarts.jsonl, restarts.md.

    make bench-restarts                                 # builds, then runs this
    bench/macro/restarts.py --restarts 2                # a small part of it

A host on a Redis of its own, and a crowd by `ab` that opens a connection for each request, all in a network namespace that this
makes, since `net.ipv4.tcp_migrate_req` is a namespace's. The way between them is a tun device, on which each packet takes some
milliseconds: on loopback no handshake would ever be half done as a listener closes. The host is restarted again and again, in
four ways: SIGTERM and then the next process, which is what there is to be better than; the next process beside the last one by
`--reuse-port`, with `tcp_migrate_req` off and on; and on sockets that outlive the processes. Counted are requests that failed,
by what `ab` says of them, and the longest that one took.

Takes root, Python's standard library, `unshare`, `ip` and `ab`.
"""

import argparse
import array
import collections
import fcntl
import json
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import servers
from servers import HUGE, ROOT, Process, fail, find

INSIDE = "BOXOFFICE_BENCH_INSIDE"
MIGRATE = pathlib.Path("/proc/sys/net/ipv4/tcp_migrate_req")
WAYS = {
    "SIGTERM, then the next process": {"overlaps": False},
    "`--reuse-port`, `tcp_migrate_req=0`": {"overlaps": True, "migrate": 0},
    "`--reuse-port`, `tcp_migrate_req=1`": {"overlaps": True, "migrate": 1},
    "sockets that outlive the process": {"overlaps": False, "passed": True},
}


# This end of the slow way, and the address that is reached over it: this end again.
HERE, THERE = "10.9.0.1", "10.9.0.2"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def slow_way(delay_ms):
    """Whoever connects to THERE meets what listens here, each packet taking so long; gives the process that carries them.

    A packet comes back with its addresses changed for each other, so that it seems to be from THERE. Its checksums stay right.
    """
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH14x", b"slow", IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "address", "add", f"{HERE}/24", "dev", "slow"], check=True)
    subprocess.run(["ip", "link", "set", "slow", "up", "txqueuelen", "10000"], check=True)
    child = os.fork()
    if child:
        return child
    queue = collections.deque()
    while True:
        wait = max(0, queue[0][0] - time.monotonic()) if queue else None
        select.select([device], [], [], wait)
        now = time.monotonic()
        try:
            while True:
                packet = array.array("B", os.read(device, 65536))
                if packet[0] >> 4 == 4:
                    packet[12:16], packet[16:20] = packet[16:20], packet[12:16]
                    queue.append((now + delay_ms / 1000, packet))
        except BlockingIOError:
            pass
        while queue and queue[0][0] <= now:
            os.write(device, queue.popleft()[1])


class Host:
    """One process of the host that is restarted, on a port that stays the same."""

    def __init__(self, options, folder, name, redis, port, sockets, flags):
        words = [options.binary, "serve", "--ledger", f"redis://127.0.0.1:{redis.port}/0", "--sale", f"ticket={HUGE}", *flags]
        words += ["--drain-delay", f"{options.delay_ms}ms", "--admin", "127.0.0.1:0"]
        if sockets:
            # Which process the sockets are for only that process can say.
            words = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *words]
            self.process = passing(words, folder, name, sockets)
        else:
            self.process = Process([*words, "--listen", f"0.0.0.0:{port}"], folder, name, speaks=True)
        self.process.lines_until("ready")


def passing(words, folder, name, sockets):
    """A process that finds the sockets from descriptor 3 on, as a service manager passes them."""
    for place, each in enumerate(sockets):
        os.dup2(each.fileno(), 3 + place, inheritable=True)
    os.environ["LISTEN_FDS"] = str(len(sockets))
    popen = subprocess.Popen

    def keeping(*arguments, **settings):
        return popen(*arguments, pass_fds=range(3, 3 + len(sockets)), **settings)

    subprocess.Popen = keeping
    try:
        return Process(words, folder, name, speaks=True)
    finally:
        subprocess.Popen = popen
        del os.environ["LISTEN_FDS"]


def listening(port, count):
    """Sockets that listen on one port and that nobody serves yet."""
    sockets = []
    for _ in range(count):
        each = socket.socket()
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        each.bind(("0.0.0.0", port))
        each.listen(4096)
        # Out of the way of the numbers that they are passed by.
        sockets.append(socket.socket(fileno=os.dup2(each.detach(), 50 + len(sockets), inheritable=False)))
    return sockets


def crowd(port, seconds, connections):
    words = [find("ab"), "-r", "-q", "-t", str(seconds), "-n", "100000000", "-c", str(connections), "-s", "30"]
    return subprocess.Popen([*words, f"http://{THERE}:{port}/buy/ticket"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def counted(said):
    """What `ab` says of requests that failed: connections that were refused or reset; a shorter answer is none of them."""

    def number(words):
        found = re.search(words + r"[^\d]*(\d+)", said)
        return int(found[1]) if found else 0

    return {
        "requests": number("Complete requests:"),
        "connect": number("Connect:") if "(Connect:" in said else 0,
        "receive": number("Receive:"),
        "exceptions": number("Exceptions:"),
        "refused": number("Non-2xx responses:"),
        "longest_ms": number(r"100%"),
    }


def trial(options, folder, way, number):
    settings = WAYS[way]
    MIGRATE.write_text(f"{settings.get('migrate', 0)}\n")
    redis = servers.Redis(folder, f"redis-{number}", "--appendonly", "no")
    port = servers.free_port()
    sockets = listening(port, len(os.sched_getaffinity(0))) if settings.get("passed") else ()
    flags = ("--reuse-port",) if settings["overlaps"] else ()
    serial = 0

    def start():
        nonlocal serial
        serial += 1
        return Host(options, folder, f"host-{number}-{serial}", redis, port, sockets, flags)

    host = start()
    ab = crowd(port, options.seconds, options.connections)
    pause = options.seconds / (options.restarts + 1)
    restarts = 0
    began = time.monotonic()
    try:
        while restarts < options.restarts and time.monotonic() + pause < began + options.seconds:
            time.sleep(max(0, began + pause * (restarts + 1) - time.monotonic()))
            if settings["overlaps"]:
                after = start()
                host.process.end()
                host = after
            else:
                host.process.end()
                host = start()
            restarts += 1
        said, _ = ab.communicate(timeout=options.seconds + 60)
    finally:
        ab.kill()
        host.process.end()
        redis.process.end()
        for each in sockets:
            each.close()
    return {"restarts": restarts, **counted(said)}


def summary(facts, options, results):
    lines = [
        "# What a restart costs those who connect meanwhile\n",
        f"{facts['cpu']}, Linux {facts['kernel']}; boxoffice {facts['commit']}. {options.connections} connections at a time, one a request, "
        f"by `ab`, over a way of {options.way_ms} ms each way; `--drain-delay {options.delay_ms}ms`; {options.seconds} s a trial, {options.rounds} trials each. {options.note or ''}\n",
        "| way | restarts | requests | connections refused or reset | the longest that one took, ms |",
        "| --- | --- | --- | --- | --- |",
    ]
    for way in WAYS:
        mine = [each for each in results if each["way"] == way]
        total = {name: sum(each[name] for each in mine) for name in mine[0] if isinstance(mine[0][name], int)}
        # Of one that was reset `ab` counts an exception as well.
        failed = total["connect"] + max(total["receive"], total["exceptions"])
        longest = max(each["longest_ms"] for each in mine)
        lines.append(f"| {way} | {total['restarts']} | {total['requests']:,} | {failed:,} | {longest:,} |")
    return "\n".join(lines) + "\n"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--restarts", type=int, default=20)
    options.add_argument("--seconds", type=int, default=40)
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--delay-ms", type=int, default=200)
    options.add_argument("--way-ms", type=float, default=5)
    options.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/boxoffice")
    options.add_argument("--note", help="what is to be said of the run")
    options.add_argument("--out", type=pathlib.Path, help="folder to write to instead of bench/runs/<date>-<machine>")
    words = sys.argv[1:]
    options = options.parse_args()
    options.binary = options.binary.resolve()
    if not options.binary.exists():
        fail(f"{options.binary} is missing; `make bench-restarts` makes it")
    if INSIDE not in os.environ:
        done = subprocess.run(["unshare", "--net", sys.executable, __file__, *words], env={**os.environ, INSIDE: "1"})
        sys.exit(done.returncode)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    carrier = slow_way(options.way_ms)
    try:
        measure(options)
    finally:
        os.kill(carrier, signal.SIGKILL)
        os.waitpid(carrier, 0)


def measure(options):
    facts = servers.machine()
    out = options.out or servers.runs_folder(facts)
    scratch = ROOT / "target/bench"
    scratch.mkdir(parents=True, exist_ok=True)
    results = []
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for number in range(options.rounds):
            for way in WAYS:
                seen = trial(options, pathlib.Path(folder), way, len(results))
                results.append({"way": way, "round": number, **seen})
                print(f"{way}: {seen}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "restarts.jsonl", "w", encoding="utf-8") as raw:
        raw.write(json.dumps({**facts, "connections": options.connections, "delay_ms": options.delay_ms, "way_ms": options.way_ms}) + "\n")
        raw.writelines(json.dumps(each) + "\n" for each in results)
    text = summary(facts, options, results)
    (out / "restarts.md").write_text(text)
    print(f"\n{text}\nwritten to {out}")


if __name__ == "__main__":
    main()
