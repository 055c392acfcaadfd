"""All servers of `make bench`, up at the same time and started once: the ledgers, the hosts on them, the peers beside them.
Hosts that would disturb the others by being there (10,000 sales are read again and again) are started for their case alone."""

import itertools

import peer_servers
from servers import Boxoffice, Process, Redis, get, wait_until

NO_FILE = ("--appendonly", "no")
# Not rewritten meanwhile: that would fall on one case or another.
FILE = ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
FILE_EVERY_SECOND = (*FILE, "--appendfsync", "everysec")
FILE_ALWAYS = (*FILE, "--appendfsync", "always")
# Database numbers of the Redis without a file; the host that is always there has 0.
DATABASE_ONE_CORE = 1
DATABASES_OF_MANY_SALES = 2


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
        self.box_redis = self.host("boxoffice-redis", self.url(self.memory))
        self.box_everysec = self.host("boxoffice-everysec", self.url(self.everysec))
        self.box_always = self.host("boxoffice-always", self.url(self.always))
        self.box_replicas = self.host("boxoffice-replicas", self.url(self.primary), options=("--durability", "replicas=1"))

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
    def url(redis, database=0):
        return f"redis://127.0.0.1:{redis.port}/{database}"

    def prefix(self):
        """What the ids of a run begin with: no id is asked for twice."""
        return f"b{next(self.numbers)}"

    def host_of_one_core(self):
        ledger = self.url(self.memory, DATABASE_ONE_CORE)
        return self.host("boxoffice-one-core", ledger, options=("--cores", "0")), [self.memory]

    def host_of_sales(self, count, stock):
        """A host on a ledger of its own with `count` sales and no other: on the Redis without a file."""
        counts = (1, 100, 10_000)
        database = DATABASES_OF_MANY_SALES + counts.index(count) * 2 + (stock > 0)
        return self.host_of_sales_on(self.url(self.memory, database), f"{count}-{stock}", count, stock), [self.memory]

    def host_of_sales_on(self, ledger, name, count, stock):
        """The first one opens the sales; those after it find them in the ledger."""
        sales = [f"s-{number}={stock}" for number in range(count)]
        name = f"boxoffice-sales-{name}"
        if name not in self.prepared:
            self.end(self.host(name, ledger, sales=sales).process)
            self.prepared.add(name)
        host = self.host(name, ledger, sales=())
        wait_until(f"{name} knows its sales", lambda: b" 200 " in get(host.port, f"/v1/sales/s-{count - 1}")[:16])
        return host
