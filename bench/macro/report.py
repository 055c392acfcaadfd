"""The summary of a run: goals first, then every case with its median and spread."""

import statistics

import goals


def summary(facts, settings, results, tries, failures, idle_calls_per_second):
    counted = goals.Results(results)
    others = [result["others_percent"] for result in results if "others_percent" in result] or [0]
    names = list(dict.fromkeys(result["case"] for result in results))
    rounds = max((result["round"] for result in results), default=-1) + 1
    lines = [
        f"# {facts['date']}, {facts['cores']} cores",
        "",
        f"{facts['cpu']}, Linux {facts['kernel']}; boxoffice {facts['commit']}, Redis {facts['redis']}, nginx {facts['nginx']}, "
        f"Go {facts['go'].removeprefix('go')}, axum {facts['axum']}.",
        f"{rounds} rounds of {settings.seconds:g} s a case. The load is `bench/load` for everything, on the same cores as the servers: "
        "requests/s say as much of the load as of the server, CPU time a request is the server's own. "
        "`bench/macro/run.py` says how; `raw.jsonl` has every run.",
        f"Others took {statistics.median(others):.0f} % of the machine in the median run, {max(others):.0f} % in the worst.",
    ]
    if settings.smoke:
        lines += ["", "**This is a smoke run**: it shows that every case works. Its figures say nothing."]
    if failures:
        lines += ["", "## Failed", ""]
        lines += [f"- {each['case']}, round {each['round']}: {each['failed']}" for each in failures]
    lines += [
        "",
        "## Goals",
        "",
        "The median over the rounds, least to most in brackets; a ratio is made within a round.",
        "",
        "| what | goal | figure | |",
        "| --- | --- | ---: | --- |",
    ]
    lines += [f"| {row.workload} | {row.goal} | {row.figure} | {row.verdict} |" for row in goals.rows(counted, idle_calls_per_second)]
    lines += cases_table(counted, [name for name in names if counted.values(name, "answered")])
    lines += open_loop_table(counted, [name for name in names if name.startswith("open loop")])
    starts = [name for name in names if name.startswith("start")]
    if starts:
        lines += ["", "## Start", "", "| case | ready after ms | least to most |", "| --- | ---: | ---: |"]
        for name in starts:
            each = counted.values(name, "ready_ms")
            lines.append(f"| {name} | {statistics.median(each):,.0f} | {min(each):,.0f} to {max(each):,.0f} |")
    lines += ["", f"{sum(len(tried) for _, tried in tries)} runs, {len(results)} of them count: a run that others disturbed is tried again, and the quietest try counts."]
    return "\n".join(lines) + "\n"


def cases_table(counted, names):
    lines = [
        "",
        "## Cases",
        "",
        "![requests a second](throughput.svg)",
        "![CPU time a request](cpu.svg)",
        "![growth](growth.svg)",
        "",
        "Medians; spread is least to most. CPU is time a request in microseconds: server user + system, Redis, the load. Calls are "
        "to Redis, a request. A peer stores no booking. In `whole sale` most requests are refusals.",
        "",
        "| case | requests/s | spread | server us | spread | user | system | Redis us | load us | calls | p50 ms | p99 ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in names:
        median = lambda figure: statistics.median(each) if (each := counted.values(name, figure)) else None
        spread = lambda figure, digits: f"{min(counted.values(name, figure)):,.{digits}f} to {max(counted.values(name, figure)):,.{digits}f}"
        say = lambda value, digits=2: "" if value is None else f"{value:,.{digits}f}"
        latency = lambda part: statistics.median(each[part] for each in counted.values(name, "latency_us")) / 1000
        lines.append(
            f"| {name} | {say(median('per_second'), 0)} | {spread('per_second', 0)} | {say(median('server_us'))} "
            f"| {spread('server_us', 2)} | {say(median('server_user_us'))} | {say(median('server_system_us'))} "
            f"| {say(median('redis_us'))} | {say(median('load_us'))} | {say(median('calls_each'), 3)} "
            f"| {latency('p50'):.2f} | {latency('p99'):.2f} |"
        )
    return lines


def open_loop_table(counted, names):
    if not names:
        return []
    lines = [
        "",
        "## Latency at a fixed rate",
        "",
        "![latency](latency.svg)",
        "",
        "From when a request was to leave, in milliseconds. The peak is that of the same requests as fast as they are answered; "
        "a server that cannot keep the rate answers fewer.",
        "",
        "| case | rate | answered/s | p50 | p90 | p99 | p99 spread | p99.9 | max |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in names:
        median = lambda figure: statistics.median(counted.values(name, figure))
        each = counted.values(name, "latency_us")
        at = lambda part: statistics.median(seen[part] for seen in each) / 1000
        p99 = [seen["p99"] / 1000 for seen in each]
        lines.append(
            f"| {name} | {median('rate'):,.0f} | {median('per_second'):,.0f} | {at('p50'):.2f} | {at('p90'):.2f} | {at('p99'):.2f} "
            f"| {min(p99):.2f} to {max(p99):.2f} | {at('p999'):.2f} | {at('max'):.2f} |"
        )
    return lines
