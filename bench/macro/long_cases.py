"""Cases that are more than one load: a whole sale, a ledger that grows, a start."""

import functools
import time

import peer_servers
from measuring import Failed, amount, measure, words_of
from servers import HUGE
from stand import Target

LONG_SECONDS = 300  # more than any of these takes


class WholeSale:
    """Every ticket of a sale and every refusal: as many tickets as there are must be granted, not one more or less."""

    # Of the slow ones a round is enough.
    SUBJECTS = {"boxoffice redis": 2, "boxoffice sqlite": 2, "nginx-lua": 2, "axum": 1, "go": 1}

    def __init__(self, subject):
        self.subject, self.workload, self.rounds_max = subject, "whole sale", self.SUBJECTS[subject]
        self.name = f"{self.workload}: {subject}"

    def run(self, stand, settings):
        redis = [] if "sqlite" in self.subject else [stand.memory]
        peers = {"nginx-lua": stand.nginx, "axum": stand.axum, "go": stand.go}
        host = None
        if self.subject in peers:
            server, sold = peers[self.subject], functools.partial(peer_servers.sold, stand.memory)
            peer_servers.set_stock(stand.memory, settings.tickets)
        else:
            host, _ = stand.fresh_host(redis, sales=(f"ticket={settings.tickets}",))
            server, sold = host, host.sold
        options = {"kind": "buy", "requests": settings.requests, "seconds": LONG_SECONDS}
        try:
            seen = measure(stand.load, Target(server, redis), words_of(**options), settings.tickets, sold)
        finally:
            if host:
                stand.end(host.process)
            peer_servers.set_stock(stand.memory, HUGE)
        if seen["answered"] != settings.requests:
            raise Failed(f"{seen['answered']} of {settings.requests} requests were answered")
        return [{"case": self.name, "workload": self.workload, "subject": self.subject, **seen}]


class LedgerGrowth:
    """Bookings in an empty ledger, then in the same one once it is full: the same host, one behind the other."""

    rounds_max = 3

    def __init__(self, kind):
        self.kind, self.subject = kind, f"boxoffice {kind}"
        self.name = f"ledger growth: {self.subject}"

    def run(self, stand, settings):
        host, redis = stand.fresh_host([stand.memory] if self.kind == "redis" else [])
        target = Target(host, redis)
        results = []

        def book(count):
            options = {"kind": "put", "requests": count, "seconds": LONG_SECONDS, "prefix": stand.prefix()}
            return measure(stand.load, target, words_of(**options), "granted", host.sold)

        try:
            for full in (False, True):
                if full:
                    book(settings.ledger_bookings - settings.growth_bookings)
                workload = f"bookings, {settings.ledger_bookings if full else 0:,} in the ledger"
                seen = book(settings.growth_bookings)
                results.append({"case": f"{workload}: {self.subject}", "workload": workload, "subject": self.subject, **seen})
        finally:
            stand.end(host.process)
        return results


class Start:
    """From the start of the process to the line "ready", with 10,000 sales in the ledger, and with one."""

    rounds_max = None
    SALES = (1, 10_000)

    def __init__(self, kind):
        self.kind, self.subject = kind, f"boxoffice {kind}"
        self.name = f"start: {self.subject}"

    def run(self, stand, settings):
        results = []
        for count in self.SALES:
            host, _ = stand.host_of_kept_sales("start", self.kind, count, HUGE)
            stand.end(host.process)
            workload = f"start, {amount(count, 'sale')}"
            results.append(
                {"case": f"{workload}: {self.subject}", "workload": workload, "subject": self.subject, "ready_ms": host.ready_ms}
            )
            time.sleep(0.1)
        return results
