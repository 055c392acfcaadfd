"""The peers, built and started: all of bench/peers/. Each answers /buy/ticket or a constant; none keeps a booking."""

import os
import pathlib
import re
import subprocess

from servers import BENCH, HUGE, ROOT, Process, ask, fail, find, free_port, get, wait_for_port

CARGO_FOLDER = ROOT / "target/peer-axum"  # apart from the product's build
STOCK = "peer:stock"


def build(folder):
    """Builds what is to be compiled; gives the programs by name. Nothing is fetched for Go; axum has a lock file."""
    programs = {name: folder / name for name in ("peer-epoll", "peer-go")}
    run([find("cc"), "-O2", "-o", programs["peer-epoll"], BENCH / "peers/epoll.c"])
    offline = {"GO111MODULE": "off", "GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    offline["GOCACHE"] = str(ROOT / "target/peer-go")
    run([find("go"), "build", "-o", programs["peer-go"], BENCH / "peers/reference.go"], offline)
    manifest = BENCH / "peers/axum/Cargo.toml"
    run(["cargo", "build", "--locked", "--release", "--manifest-path", manifest, "--target-dir", CARGO_FOLDER])
    programs["peer-axum"] = CARGO_FOLDER / "release/peer-axum"
    return programs


def run(command, environment=None):
    done = subprocess.run([str(word) for word in command], env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        fail(f"{command[0]} failed with status {done.returncode}")


class Peer:
    def __init__(self, process, port, folder):
        self.process, self.port, self.folder = process, port, folder

    def check_that_it_sells(self):
        if b'"code":1' not in get(self.port, "/buy/ticket"):
            fail(f"{self.process.name} does not sell: see {self.folder}")
        return self


def epoll(folder, programs, loops, answer, closes=False):
    """The bare loop, with the very bytes of `answer`."""
    name = f"epoll-{loops}{'-close' if closes else ''}"
    (folder / f"{name}.answer").write_bytes(answer)
    port = free_port()
    words = [programs["peer-epoll"], port, loops, folder / f"{name}.answer", *(["close"] if closes else [])]
    process = Process(words, folder, name, speaks=True)
    process.lines_until("ready")
    return Peer(process, port, folder)


def load_script(redis):
    """The counter's script and its stock; gives the script's name."""
    redis.command("hset", STOCK, "total", HUGE, "sold", 0)
    return redis.command("script", "load", (BENCH / "peers/count.lua").read_text())


def set_stock(redis, total):
    redis.command("hset", STOCK, "total", total, "sold", 0)


def sold(redis):
    return int(redis.command("hget", STOCK, "sold"))


def nginx_lua(folder, name, redis, loops):
    """nginx with Lua and Redis; it answers /constant too."""
    home = folder / name
    home.mkdir()
    port = free_port()
    text = (BENCH / "peers/nginx-lua.conf").read_text()
    for word, value in (
        ("@LOOPS@", loops),
        ("@PORT@", port),
        ("@REDIS_PORT@", redis.port),
        ("@SCRIPT@", load_script(redis)),
        ("modules/", "/usr/lib/nginx/modules/"),
    ):
        text = text.replace(word, str(value))
    (home / "nginx.conf").write_text(text)
    command = [find("nginx"), "-p", home, "-c", home / "nginx.conf", "-e", home / "error.log"]
    process = Process(command, folder, name)
    wait_for_port(port, process.child)
    return Peer(process, port, home).check_that_it_sells()


def axum(folder, programs, redis, loops):
    port = free_port()
    process = Process([programs["peer-axum"], port, loops, redis.port, load_script(redis)], folder, "axum", speaks=True)
    process.lines_until("ready")
    return Peer(process, port, folder).check_that_it_sells()


def go(folder, programs, redis, loops, manner, stock=HUGE):
    """The reference's design: `whole` as it is known, `lean` kinder to it."""
    home = folder / f"go-{manner}-{stock}"
    home.mkdir()
    port = free_port()
    words = [programs["peer-go"], port, loops, redis.port, load_script(redis), stock, manner]
    process = Process(words, home, f"go-{manner}", speaks=True)
    process.lines_until("ready")
    peer = Peer(process, port, home)
    return peer.check_that_it_sells() if stock else peer


def closing_answer(port, target):
    """An answer that says that its connection closes."""
    answer = ask(port, target, fields="Connection: close\r\n")
    if not re.search(rb"(?i)\r\nconnection: close", answer):
        fail(f"no closing answer: {answer}")
    return answer


def versions():
    go_version = subprocess.run([find("go"), "version"], capture_output=True, text=True, check=True).stdout.split()[2]
    lock = pathlib.Path(BENCH / "peers/axum/Cargo.lock").read_text()
    axum_version = re.search(r'name = "axum"\nversion = "([^"]+)"', lock)[1]
    return {"go": go_version, "axum": axum_version}
