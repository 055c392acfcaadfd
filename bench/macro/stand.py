"""All servers of `make bench`: the Redis, the peers, and the hosts that only refuse are up all the time. A host that books is
started for its case alone, on an empty ledger: bookings of one run must not make the next one slower, and a host of 10,000
sales, which it reads again and again, must not disturb the others."""

import functools
import itertools
import shutil

import peer_servers
from servers import HUGE, Boxoffice, Process, Redis, get, wait_until

NO_FILE = ("--appendonly", "no")
# Not rewritten meanwhile: that would fall on one case or another.
FILE = ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
FILE_EVERY_SECOND = (*FILE, "--appendfsync", "everysec")
FILE_ALWAYS = (*FILE, "--appendfsync", "always")
# Database numbers of each Redis: of the host that is always there, and of the one that a case starts.
STANDING, EMPTIED = 0, 1
# Sales that refuse, and those that a start finds, are opened once.
KEPT = {"refusals of 1": 2, "refusals of 100": 3, "refusals of 10000": 4, "start of 1": 5, "start of 10000": 6}


class Target:
    """What a load is sent to: a port, the server there, the Redis that work for it."""

    def __init__(self, server, redis=()):
        self.port, self.process, self.redis = server.port, server.process, list(redis)


class Stand:
    def __init__(self, folder, binary, load, processes):
        self.folder, self.binary, self.load, self.processes = folder, binary, load, processes
        self.numbers = itertools.count()
        self.peaks = {}  # requests a second, by subject
        self.prepared = set()
        self.programs = peer_servers.build(folder)

        self.memory = self.redis("redis-memory", *NO_FILE)
        self.everysec = self.redis("redis-everysec", *FILE_EVERY_SECOND)
        self.always = self.redis("redis-always", *FILE_ALWAYS)
        self.primary = self.redis("redis-primary", *NO_FILE, "--repl-diskless-sync-delay", "0")
        self.replica = self.redis("redis-replica", *NO_FILE, "--replicaof", "127.0.0.1", self.primary.port)
        wait_until("the replica follows", lambda: "master_link_status:up" in self.replica.command("info", "replication"))

        self.box_sqlite = self.host("boxoffice-sqlite", "sqlite:{home}/boxoffice.db")
        self.box_redis = self.host("boxoffice-redis", self.url(self.memory, STANDING))

        loops = self.box_redis.loops
        answer = get(self.box_redis.port, "/buy/gone")
        closing = peer_servers.closing_answer(self.box_redis.port, "/buy/gone")
        self.epoll = self.kept(peer_servers.epoll(folder, self.programs, loops, answer))
        self.epoll_one_core = self.kept(peer_servers.epoll(folder, self.programs, 1, answer))
        self.epoll_closing = self.kept(peer_servers.epoll(folder, self.programs, loops, closing, closes=True))
        self.nginx = self.kept(peer_servers.nginx_lua(folder, "nginx-memory", self.memory, loops))
        self.nginx_one_core = self.kept(peer_servers.nginx_lua(folder, "nginx-one-core", self.memory, 1))
        self.nginx_everysec = self.kept(peer_servers.nginx_lua(folder, "nginx-everysec", self.everysec, loops))
        self.nginx_always = self.kept(peer_servers.nginx_lua(folder, "nginx-always", self.always, loops))
        self.axum = self.kept(peer_servers.axum(folder, self.programs, self.memory, loops))
        self.go = self.kept(peer_servers.go(folder, self.programs, self.memory, loops, "whole"))
        self.go_lean = self.kept(peer_servers.go(folder, self.programs, self.memory, loops, "lean"))
        self.go_sold_out = self.kept(peer_servers.go(folder, self.programs, self.memory, loops, "whole", stock=0))

    def kept(self, server):
        self.processes.append(server.process)
        return server

    def redis(self, name, *options):
        return self.kept(Redis(self.folder, name, *options))

    def host(self, name, ledger, **others):
        return self.kept(Boxoffice(self.folder, name, self.binary, ledger, **others))

    def end(self, process: Process):
        process.end()
        self.processes.remove(process)

    @staticmethod
    def url(redis, database):
        return f"redis://127.0.0.1:{redis.port}/{database}"

    def prefix(self):
        """What the ids of a run begin with: no id is asked for twice."""
        return f"b{next(self.numbers)}"

    def fresh_host(self, redis=(), sales=(f"ticket={HUGE}",), options=()):
        """A host on an empty ledger: on the first of these Redis, or on a new file."""
        if redis:
            redis[0].command("-n", EMPTIED, "flushdb", "sync")
        else:
            shutil.rmtree(self.folder / "boxoffice-fresh", ignore_errors=True)
        ledger = self.url(redis[0], EMPTIED) if redis else "sqlite:{home}/boxoffice.db"
        return self.host("boxoffice-fresh", ledger, sales=sales, options=options), redis

    def fresh(self, *redis, **others):
        """A function that starts such a host, for a case."""
        return functools.partial(self.fresh_host, list(redis), **others)

    def host_of_kept_sales(self, purpose, kind, count, stock):
        """A host on a ledger that has these sales already; the first time they are opened."""
        name = f"boxoffice-{kind}-{purpose}-of-{count}"
        ledger = "sqlite:{home}/boxoffice.db" if kind == "sqlite" else self.url(self.memory, KEPT[f"{purpose} of {count}"])
        if name not in self.prepared:
            self.end(self.host(name, ledger, sales=sales_of(count, stock)).process)
            self.prepared.add(name)
        host = self.host(name, ledger, sales=())
        wait_until(f"{name} knows its sales", lambda: b" 200 " in get(host.port, f"/v1/sales/s-{count - 1}")[:16])
        return host, [] if kind == "sqlite" else [self.memory]


def sales_of(count, stock):
    """The words that open sales s-0 and on."""
    return [f"s-{number}={stock}" for number in range(count)]
