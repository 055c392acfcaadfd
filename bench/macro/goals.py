"""What the figures should show: every goal with its figure and whether it is met. A goal whose cases did not run is told as
not measured, never left out."""

import statistics

from cases import CROWDS, SALES
from measuring import amount

REDIS_CALL_US = (3.5, 11)  # Redis' time a booking, beside that of the bare counter's EVALSHA
FLAT = 1.10


class Results:
    """The runs that count."""

    def __init__(self, results):
        self.rounds = {}
        for result in results:
            self.rounds.setdefault(result["round"], {})[result["case"]] = result

    def values(self, case, figure):
        each = [cases[case].get(figure) for cases in self.rounds.values() if case in cases]
        return [value for value in each if value is not None]

    def together(self, formula, *cases):
        """The formula's value in each round that has all these cases."""
        rounds = [cases_of for cases_of in self.rounds.values() if all(case in cases_of for case in cases)]
        return [formula(*(cases_of[case] for case in cases)) for cases_of in rounds]


class Row:
    """A goal's line in the summary."""

    def __init__(self, workload, goal, values, at_most=None, at_least=None, unit="", digits=2, below=None, verdict=None):
        self.workload, self.goal = workload, goal
        if not values:
            self.figure, self.verdict = "", "not measured"
            return
        median = statistics.median(values)
        say = lambda value: f"{value:,.{digits}f}"
        self.figure = f"{say(median)}{unit} ({say(min(values))} to {say(max(values))})"
        met = (
            (at_most is None or median <= at_most)
            and (at_least is None or median >= at_least)
            and (below is None or median < below)
        )
        self.verdict = verdict if verdict is not None else "met" if met else "**NOT met**"


def p99(result):
    return result["latency_us"]["p99"]


def rows(results, idle_calls_per_second):
    by = lambda figure: lambda above, below: above[figure] / below[figure]
    ratio = lambda above, below, figure: results.together(by(figure), above, below)
    box, pipelined = "refusals: boxoffice redis", "refusals, pipelined 16"
    ids, counter = "bookings with ids: boxoffice redis", "bookings: nginx-lua"
    lines = [
        Row("sold out, keep-alive: server CPU time / bare epoll loop", "at most 1.05", ratio(box, "refusals: epoll", "server_us"), at_most=1.05),
        Row("sold out, keep-alive: server CPU time / nginx `return 200`", "below 1", ratio(box, "refusals: nginx", "server_us"), below=1),
    ]
    for peer, goal in (("epoll", 0.6), ("nginx", 3)):
        words = f"sold out, pipelined 16: requests/s / {'bare epoll loop' if peer == 'epoll' else 'nginx'}"
        rates = ratio(f"{pipelined}: boxoffice redis", f"{pipelined}: {peer}", "per_second")
        lines.append(Row(words, f"at least {goal}", rates, at_least=goal))
        # The load takes as much of the cores as the server, which brings rates nearer to each other than they are.
        costs = ratio(f"{pipelined}: {peer}", f"{pipelined}: boxoffice redis", "server_us")
        lines.append(Row("(the same by server CPU time)", "", costs, verdict=""))
    peers = (("nginx-lua", "nginx with Lua"), ("axum", "axum"), ("go", "the Go reference"))
    for (peer, words), goal in zip(peers, (0.30, 0.50, 0.07)):
        shares = ratio(ids, f"bookings: {peer}", "cpu_us")
        lines.append(Row(f"bookings with ids on Redis: server + Redis CPU time / {words}", f"at most {goal:.2f}", shares, at_most=goal))
    for peer, words, goal in (("nginx-lua", "nginx with Lua", 2.5), ("go", "the Go reference", 11)):
        rates = ratio(ids, f"bookings: {peer}", "per_second")
        lines.append(Row(f"bookings with ids on Redis: bookings/s / {words}", f"at least {goal}", rates, at_least=goal))
    most, beside = REDIS_CALL_US
    lines += [
        Row("Redis CPU time a booking", f"at most {most} us", results.values(ids, "redis_us"), at_most=most, unit=" us"),
        Row(
            "Redis CPU time a booking / the bare counter's EVALSHA",
            f"at most {most / beside:.2f} ({most} us where that takes {beside} us)",
            ratio(ids, counter, "redis_us"),
            at_most=most / beside,
        ),
        Row("(the bare counter's EVALSHA, one an order, from nginx with Lua)", "", results.values(counter, "redis_us"), unit=" us", verdict=""),
        Row("Redis calls a booking at load", "at most 0.05", results.values(ids, "calls_each"), at_most=0.05, digits=3),
        Row(
            "Redis calls a refusal, beyond those of an idle host",
            "0",
            results.together(lambda seen: round(calls_beyond(seen, idle_calls_per_second), 4), box),
            at_most=0,
            digits=4,
        ),
    ]
    for whose, words in (("boxoffice", "its peak"), ("nginx-lua", "nginx with Lua's peak")):
        workload = f"open loop, 50 % of {whose}"
        slow = results.together(lambda ours, theirs: p99(ours) / p99(theirs), f"{workload}: boxoffice redis", f"{workload}: nginx-lua")
        lines.append(Row(f"p99 at half of {words}, open loop / nginx with Lua at the same rate", "at most 1", slow, at_most=1))
    clients = "bookings, 100 clients"
    rates = ratio(f"{clients}: boxoffice sqlite", f"{clients}: boxoffice redis, AOF always", "per_second")
    lines.append(Row("SQLite, `synchronous=FULL`, 100 clients: bookings/s / Redis with AOF always", "at least 0.5", rates, at_least=0.5))
    return lines + growth_rows(results) + start_rows(results)


def calls_beyond(seen, idle_calls_per_second):
    """A sync more or less is no call of a refusal."""
    return max(0.0, seen["calls"] - idle_calls_per_second * (seen["seconds"] + 1)) / seen["answered"]


def growth_rows(results):
    lines = []
    grown = lambda base, *more: max(each["cpu_us"] for each in more) / base["cpu_us"]
    for kind in ("refusals", "bookings"):
        for noun, steps in (("connection", CROWDS), ("sale", SALES)):
            cases = lambda subject: [f"{kind}, {amount(step, noun)}: {subject}" for step in steps]
            title = f"growth, {kind}: server + Redis CPU time, {steps[1]:,} or {steps[-1]:,} {noun}s / {steps[0]:,}"
            lines.append(Row(title, f"at most {FLAT:.2f}", results.together(grown, *cases("boxoffice redis")), at_most=FLAT))
            if kind == "refusals" and noun == "connection":
                bare = results.together(grown, *cases("epoll"))
                lines.append(Row("(the same of the bare epoll loop, which is the kernel's part)", "", bare, verdict=""))
    for ledger in ("redis", "sqlite"):
        pairs, count = [], None
        for cases in results.rounds.values():
            found = [seen for name, seen in cases.items() if "in the ledger" in name and seen["subject"] == f"boxoffice {ledger}"]
            if len(found) == 2:
                empty, full = sorted(found, key=lambda seen: not seen["workload"].startswith("bookings, 0 "))
                count = full["workload"].removeprefix("bookings, ").removesuffix(" in the ledger")
                pairs.append(full["cpu_us"] / empty["cpu_us"])
        title = f"growth, bookings, {ledger}: server + Redis CPU time, {count or 'many'} bookings in the ledger / 0"
        lines.append(Row(title, f"at most {FLAT:.2f}", pairs, at_most=FLAT))
    return lines


def start_rows(results):
    return [
        Row(
            f"start with 10,000 sales in the ledger, {ledger}: ready",
            "within 100 ms",
            results.values(f"start, 10,000 sales: boxoffice {ledger}", "ready_ms"),
            at_most=100,
            unit=" ms",
            digits=0,
        )
        for ledger in ("redis", "sqlite")
    ]
