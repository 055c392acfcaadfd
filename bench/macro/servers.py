"""Servers that the benches start: processes of our own, Redis and boxoffice. Each is started here, counted here and ended here
by its id. Used by everything here and in bench/profile; measures nothing itself. Python's standard library only."""

import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

BENCH = pathlib.Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
TICKS = os.sysconf("SC_CLK_TCK")
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
HUGE = 100_000_000_000  # a stock that no run sells out
# Hosts here are to open their sales anew on a Redis that was emptied under the last one.
os.environ["BOXOFFICE_STATE"] = "none"


def fail(problem):
    sys.exit(f"{pathlib.Path(sys.argv[0]).stem}: {problem}")


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


def wait_until(what, condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            fail(f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)


class Process:
    """A server of ours. With `speaks` its standard output is read here, otherwise it goes to its log."""

    def __init__(self, arguments, folder, name, speaks=False):
        self.name = name
        self.log = open(folder / f"{name}.log", "ab")
        self.child = subprocess.Popen(
            [str(word) for word in arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if speaks else self.log,
            stderr=self.log,
        )

    def lines_until(self, last):
        lines = []
        for line in self.child.stdout:
            lines.append(line.decode().strip())
            if lines[-1] == last:
                return lines
        self.child.wait()
        fail(f"{self.name} ended with status {self.child.returncode}: {self.last_words()}")

    def last_words(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")[-1000:]

    def cpu(self):
        """User and system seconds of the process and its children so far, of those that ended too."""
        if self.child.poll() is not None:
            fail(f"{self.name} ended with status {self.child.returncode}: {self.last_words()}")
        user = system = 0
        for pid in [self.child.pid, *children(self.child.pid)]:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
        return user / TICKS, system / TICKS

    def end(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        if self.child.stdout:
            self.child.stdout.close()
        self.log.close()


def children(pid):
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def ask(port, target, method="GET", body="", fields=""):
    """The whole answer to one request, as bytes."""
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        client.sendall(f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{fields}{length}\r\n{body}".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += client.recv(65536) or fail(f"no answer to {method} {target}")
        head, body = answer.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)[1])
        while len(body) < length:
            body += client.recv(65536) or fail(f"half an answer to {method} {target}")
        return head + b"\r\n\r\n" + body


def get(port, target):
    return ask(port, target)


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

    def calls(self):
        """Calls that clients made so far and that run a script or wait for replicas. What scripts call themselves does not
        count; INFO tells of both without telling them apart, so that only these can be told."""
        stats = self.command("info", "commandstats")
        return sum(int(count) for count in re.findall(r"cmdstat_(?:evalsha|eval|wait|smembers):calls=(\d+)", stats))


class Boxoffice:
    """A host. `ready_ms` is the time from its start as a process to the line "ready"."""

    def __init__(self, folder, name, binary, ledger, sales=(f"ticket={HUGE}", "gone=1"), options=()):
        home = folder / name
        home.mkdir(exist_ok=True)
        self.name = name
        arguments = [binary, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        arguments += ["--ledger", ledger.format(home=home), *options]
        for sale in sales:
            arguments += ["--sale", sale]
        start = time.monotonic()
        self.process = Process(arguments, folder, name, speaks=True)
        lines = self.process.lines_until("ready")
        self.ready_ms = (time.monotonic() - start) * 1000
        self.port, self.admin = (
            int(re.search(r":(\d+)", next(line for line in lines if line.startswith(words)))[1])
            for words in ("listening on ", "admin on ")
        )
        self.loops = int(re.search(r"\((\d+) loop", next(line for line in lines if "loop" in line))[1])
        if "gone=1" in sales:
            wait_until(f"{name} sells out", lambda: b'"code":-1' in get(self.port, "/buy/gone"))

    def sold(self, sale="ticket"):
        """How many tickets the ledger says are sold, by a reading that it gave after this was asked."""
        now = datetime.datetime.now(datetime.timezone.utc)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            state = json.loads(get(self.port, f"/v1/sales/{sale}").split(b"\r\n\r\n", 1)[1])
            if datetime.datetime.fromisoformat(state["as_of"]) > now:
                return state["sold"]
            time.sleep(0.02)
        fail(f"{self.name} reads {sale} no more: {state}")


def command_line(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return (done.stdout + done.stderr).strip()


def machine():
    """What figures depend on."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "date": datetime.date.today().isoformat(),
        "commit": command_line("git", "describe", "--always", "--dirty", "--exclude=*"),
        "cores": os.cpu_count(),
        "cpu": cpu[1] if cpu else platform.machine(),
        "kernel": platform.release(),
        "redis": re.search(r"v=(\S+)", command_line(find("redis-server"), "--version"))[1],
        "nginx": command_line(find("nginx"), "-v").split("/")[-1],
    }


def runs_folder(facts):
    return BENCH / "runs" / f"{facts['date']}-{facts['cores']}core-{platform.machine()}"
