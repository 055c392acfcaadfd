"""What is measured: each case is a workload and a subject. `everything` lists them all, in the order of the report."""

import functools

import peer_servers
from long_cases import LedgerGrowth, Start, WholeSale
from measuring import CONNECTIONS, amount, measure, words_of
from servers import HUGE
from stand import Target, sales_of

OPEN_LOOP_PERCENTS = (25, 50, 75)
SALES = (1, 100, 10_000)
CROWDS = (100, 1_000, 10_000)


class Case:
    """`target` is what is there all the time, or a function that starts a host for this case alone and gives it with its Redis.
    `sold` tells how many were sold, by the server's own count; `counts` asks the host that was started."""

    def __init__(self, workload, subject, target, expect, sold=None, counts=False, connections=CONNECTIONS, rate=None, **options):
        self.workload, self.subject, self.target, self.expect = workload, subject, target, expect
        self.sold, self.counts, self.connections, self.rate, self.options = sold, counts, connections, rate, options
        self.name = f"{workload}: {subject}"
        self.rounds_max = None

    def run(self, stand, settings):
        """Gives what was measured, as one result or more."""
        started = None
        target, sold, extra = self.target, self.sold, {}
        if callable(target):
            started, redis = target()
            target, sold = Target(started, redis), started.sold if self.counts else None
        try:
            options = dict(self.options, seconds=settings.seconds, prefix=stand.prefix())
            if self.rate:
                percent, whose = self.rate
                options["rate"] = stand.peaks[whose] * percent / 100
                extra |= {"rate": options["rate"]}
            if "close" not in options:
                options["warm-up"] = self.connections * options.get("pipeline", 1)
            seen = measure(stand.load, target, words_of(self.connections, **options), self.expect, sold)
        finally:
            if started:
                stand.end(started.process)
        return [{"case": self.name, "workload": self.workload, "subject": self.subject, **seen, **extra}]


def refusals(stand):
    box, box_sqlite = Target(stand.box_redis, [stand.memory]), Target(stand.box_sqlite)
    one_core = stand.fresh(stand.memory, sales=("gone=0",), options=("--cores", "0"))
    buy = {"kind": "buy", "sale": "gone", "expect": "sold-out"}
    constant = {"kind": "constant", "expect": "sold-out"}
    return [
        Case("refusals", "boxoffice redis", box, **buy),
        Case("refusals", "boxoffice sqlite", box_sqlite, **buy),
        Case("refusals", "epoll", Target(stand.epoll), **buy),
        Case("refusals", "nginx", Target(stand.nginx), **constant),
        Case("refusals", "go", Target(stand.go_sold_out), kind="buy", expect="sold-out"),
        Case("refusals, a connection each", "boxoffice redis", box, close=True, **buy),
        Case("refusals, a connection each", "epoll", Target(stand.epoll_closing), close=True, **buy),
        Case("refusals, a connection each", "nginx", Target(stand.nginx), close=True, **constant),
        Case("refusals, pipelined 16", "boxoffice redis", box, pipeline=16, **buy),
        Case("refusals, pipelined 16", "epoll", Target(stand.epoll), pipeline=16, **buy),
        Case("refusals, pipelined 16", "nginx", Target(stand.nginx), pipeline=16, **constant),
        Case("refusals, 1 core", "boxoffice redis", one_core, **buy),
        Case("refusals, 1 core", "epoll", Target(stand.epoll_one_core), **buy),
    ]


def bookings(stand):
    host = lambda *redis, **others: {"target": stand.fresh(*redis, **others), "counts": True}
    peer = lambda peer, redis: {"target": Target(peer, [redis]), "sold": functools.partial(peer_servers.sold, redis)}
    redis, sqlite, always = host(stand.memory), host(), host(stand.always)
    replicated = host(stand.primary, stand.replica, options=("--durability", "replicas=1"))
    put, buy = {"kind": "put", "expect": "granted"}, {"kind": "buy", "expect": "granted"}
    mix = {"kind": "mix", "expect": "mixed", "counts": False}
    clients = {"connections": 100}
    return [
        Case("bookings with ids", "boxoffice redis", **redis, **put),
        Case("bookings with ids", "boxoffice sqlite", **sqlite, **put),
        Case("bookings", "boxoffice redis", **redis, **buy),
        Case("bookings", "boxoffice sqlite", **sqlite, **buy),
        Case("bookings", "nginx-lua", **peer(stand.nginx, stand.memory), **buy),
        Case("bookings", "axum", **peer(stand.axum, stand.memory), **buy),
        Case("bookings", "go", **peer(stand.go, stand.memory), **buy),
        Case("bookings", "go lean", **peer(stand.go_lean, stand.memory), **buy),
        Case("bookings, AOF every second", "boxoffice redis", **host(stand.everysec), **put),
        Case("bookings, AOF every second", "nginx-lua", **peer(stand.nginx_everysec, stand.everysec), **buy),
        Case("bookings, AOF always", "boxoffice redis", **always, **put),
        Case("bookings, AOF always", "nginx-lua", **peer(stand.nginx_always, stand.always), **buy),
        Case("bookings, replicas=1", "boxoffice redis", **replicated, **put),
        Case("bookings, 100 clients", "boxoffice redis, AOF always", **always, **put, **clients),
        Case("bookings, 100 clients", "boxoffice sqlite", **sqlite, **put, **clients),
        Case("bookings, confirmed and cancelled", "boxoffice redis", **redis | mix),
        Case("bookings, confirmed and cancelled", "boxoffice sqlite", **sqlite | mix),
        Case("bookings, 1 core", "boxoffice redis", **host(stand.memory, options=("--cores", "0")), **put),
        Case("bookings, 1 core", "nginx-lua", **peer(stand.nginx_one_core, stand.memory), **buy),
    ]


def growth(stand):
    box = Target(stand.box_redis, [stand.memory])
    cases = []
    for connections in CROWDS:
        workload, words = f"refusals, {amount(connections, 'connection')}", {"connections": connections, "kind": "buy", "sale": "gone"}
        cases.append(Case(workload, "boxoffice redis", box, expect="sold-out", **words))
        # What the kernel takes more for each of many sockets, a bare loop pays too.
        cases.append(Case(workload, "epoll", Target(stand.epoll), expect="sold-out", **words))
    for connections in CROWDS:
        crowd = {"target": stand.fresh(stand.memory), "counts": True, "connections": connections}
        cases.append(Case(f"bookings, {amount(connections, 'connection')}", "boxoffice redis", kind="put", expect="granted", **crowd))
    for count in SALES:
        host = functools.partial(stand.host_of_kept_sales, "refusals", "redis", count, 0)
        words = {"kind": "buy", "sale": "s", "sales": count, "expect": "sold-out"}
        cases.append(Case(f"refusals, {amount(count, 'sale')}", "boxoffice redis", host, **words))
    for count in SALES:
        host = stand.fresh(stand.memory, sales=sales_of(count, HUGE))
        words = {"kind": "put", "sale": "s", "sales": count, "expect": "granted"}
        cases.append(Case(f"bookings, {amount(count, 'sale')}", "boxoffice redis", host, **words))
    return cases


def open_loop(stand):
    box = {"target": stand.fresh(stand.memory), "counts": True}
    nginx = {"target": Target(stand.nginx, [stand.memory]), "sold": functools.partial(peer_servers.sold, stand.memory)}
    cases = []
    for whose in ("boxoffice", "nginx-lua"):
        for percent in OPEN_LOOP_PERCENTS:
            for subject, server in (("boxoffice redis", box), ("nginx-lua", nginx)):
                workload = f"open loop, {percent} % of {whose}"
                cases.append(Case(workload, subject, **server, kind="buy", expect="granted", rate=(percent, whose)))
    return cases


def everything(stand):
    return [
        *refusals(stand),
        *bookings(stand),
        *growth(stand),
        *open_loop(stand),
        Start("redis"),
        Start("sqlite"),
        LedgerGrowth("redis"),
        LedgerGrowth("sqlite"),
        *(WholeSale(subject) for subject in WholeSale.SUBJECTS),
    ]


def find_peaks(stand, settings):
    """What the open loops are measured by: as fast as each is answered, the best of three."""
    named = {case.name: case for case in bookings(stand)}
    for whose, name in (("boxoffice", "bookings: boxoffice redis"), ("nginx-lua", "bookings: nginx-lua")):
        runs = [named[name].run(stand, settings)[0]["per_second"] for _ in range(1 if settings.smoke else 3)]
        stand.peaks[whose] = max(runs)
