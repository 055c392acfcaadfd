"""The charts of a run, as SVG: written by hand, on no background, in colours that can be read on a light and on a dark one."""

import math
import re
import statistics
from xml.sax.saxutils import escape

import goals
from cases import CROWDS, SALES
from measuring import amount

TEXT, LINES = "#7d7d7d", "#7d7d7d55"
USER, SYSTEM, REDIS = "#4f8fd9", "#d98c3f", "#c0507a"
HUES = ("#4f8fd9", "#d98c3f", "#3fa37c", "#c0507a", "#9270ca", "#a58f32")
BAR, GAP, LEFT, WIDTH = 16, 6, 330, 940
GROUP_GAP = 14


class Drawing:
    def __init__(self):
        self.parts = []

    def rectangle(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{colour}"/>')

    def line(self, points, colour, width=1.0, dashes=""):
        place = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.parts.append(f'<polyline points="{place}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>')

    def dot(self, x, y, colour):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')

    def text(self, x, y, words, anchor="start", size=12, bold=False):
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{weight}>{escape(words)}</text>'
        )

    def write(self, path, width, height):
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" '
            f'font-family="system-ui, sans-serif" fill="{TEXT}">\n' + "\n".join(self.parts) + "\n</svg>\n"
        )


def draw(folder, results):
    counted = goals.Results(results)
    loads = [result for result in results if "answered" in result]
    groups = {}
    for result in loads:
        # These have charts of their own.
        if not re.match(r"open loop|.*[0-9] (connections|sales?|in the ledger)$", result["workload"]):
            groups.setdefault(result["workload"], {})[result["subject"]] = result["case"]
    if groups:
        throughput(folder / "throughput.svg", counted, groups)
        cpu(folder / "cpu.svg", counted, groups)
    if any(result["workload"].startswith("open loop") for result in loads):
        latency(folder / "latency.svg", counted, loads)
    growth(folder / "growth.svg", counted)


def bars(path, groups, title, most, draw_bar, legend=()):
    """Horizontal bars, a group a workload."""
    drawing = Drawing()
    drawing.text(10, 22, title, size=15, bold=True)
    x = LEFT
    for words, colour in legend:
        drawing.rectangle(x, 32, 11, 11, colour)
        drawing.text(x + 16, 42, words)
        x += 110
    scale = (WIDTH - LEFT - 150) / most
    y = 62
    for workload, cases in groups.items():
        drawing.text(10, y + 12, workload, bold=True)
        y += BAR + GAP
        for subject, case in cases.items():
            drawing.text(LEFT - 8, y + 12, subject, anchor="end")
            draw_bar(drawing, case, y, scale)
            y += BAR + GAP
        y += GROUP_GAP
    drawing.line([(LEFT, 54), (LEFT, y - GROUP_GAP)], LINES)
    drawing.write(path, WIDTH, y)


def throughput(path, counted, groups):
    cases = [case for group in groups.values() for case in group.values()]
    # Pipelines would make all others a pixel wide: their bars go by a scale of their own.
    plain = [case for case in cases if "pipelined" not in case]
    most = max(max(counted.values(case, "per_second")) for case in plain or cases)
    most_pipelined = max((max(counted.values(case, "per_second")) for case in cases if case not in plain), default=1)

    def bar(drawing, case, y, scale):
        if case not in plain:
            scale *= most / most_pipelined
        each = counted.values(case, "per_second")
        middle = statistics.median(each)
        drawing.rectangle(LEFT, y, middle * scale, BAR, USER if "boxoffice" in case else "#8a8a8a")
        low, high = LEFT + min(each) * scale, LEFT + max(each) * scale
        drawing.line([(low, y + BAR / 2), (high, y + BAR / 2)], TEXT, 1.5)
        for end in (low, high):
            drawing.line([(end, y + 4), (end, y + BAR - 4)], TEXT, 1.5)
        drawing.text(high + 8, y + 12, f"{middle:,.0f}")

    bars(path, groups, "Requests a second: median, least to most (pipelines by a scale of their own)", most, bar)


def cpu(path, counted, groups):
    figures = ("server_user_us", "server_system_us", "redis_us")
    median = lambda case, figure: statistics.median(counted.values(case, figure) or [0])
    total = lambda case: sum(median(case, figure) for figure in figures)
    cases = sorted((total(case) for group in groups.values() for case in group.values()), reverse=True)
    most = cases[0] or 1
    # The slowest design may be many times the rest; then it is cut off and says so.
    typical = cases[min(len(cases) - 1, 3)]
    most = min(most, typical * 1.5)

    def bar(drawing, case, y, scale):
        x, room = LEFT, most * scale
        for figure, colour in zip(figures, (USER, SYSTEM, REDIS)):
            width = min(median(case, figure) * scale, LEFT + room - x)
            drawing.rectangle(x, y, width, BAR, colour)
            x += width
        cut = " (cut off)" if total(case) > most * 1.001 else ""
        drawing.text(x + 8, y + 12, f"{total(case):.2f} us{cut}")

    legend = (("server, user", USER), ("server, system", SYSTEM), ("Redis", REDIS))
    bars(path, groups, "CPU time a request, microseconds: medians", most, bar, legend)


def axes(drawing, box, title, x_ticks, y_ticks, y_words):
    """A frame with its ticks; gives the two scales, which take values."""
    left, top, width, height = box
    drawing.text(left, top - 10, title, bold=True)
    low_x, high_x = x_ticks[0][0], x_ticks[-1][0]
    low_y, high_y = y_ticks[0][0], y_ticks[-1][0]
    at_x = lambda value: left + (value - low_x) / ((high_x - low_x) or 1) * width
    at_y = lambda value: top + height - (value - low_y) / ((high_y - low_y) or 1) * height
    for value, words in x_ticks:
        drawing.line([(at_x(value), top), (at_x(value), top + height)], LINES)
        drawing.text(at_x(value), top + height + 16, words, anchor="middle", size=11)
    for value, words in y_ticks:
        drawing.line([(left, at_y(value)), (left + width, at_y(value))], LINES)
        drawing.text(left - 6, at_y(value) + 4, words, anchor="end", size=11)
    drawing.text(left - 6, top - 10, y_words, anchor="end", size=11)
    return at_x, at_y


def latency(path, counted, loads):
    """Percentile curves: a panel a peak, both axes logarithmic."""
    drawing = Drawing()
    drawing.text(10, 22, "Latency at a fixed rate, from when a request was to leave: medians over the rounds", size=15, bold=True)
    names = list(dict.fromkeys(result["case"] for result in loads if result["workload"].startswith("open loop")))
    nines = lambda quantile: -math.log10(1 - min(quantile, 0.99999))
    x_ticks = [(nines(quantile), words) for quantile, words in ((0.0, "0"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"))]
    curves = {}
    for name in names:
        points = {}
        for curve in counted.values(name, "curve_us"):
            for quantile, us in curve:
                if quantile < 1:
                    points.setdefault(quantile, []).append(us)
        medians = [(quantile, statistics.median(each)) for quantile, each in sorted(points.items())]
        curves[name] = [(nines(quantile), math.log10(max(us, 1))) for quantile, us in medians]
    all_us = [us for curve in curves.values() for _, us in curve]
    decades = range(math.floor(min(all_us)), math.ceil(max(all_us)) + 1)
    y_ticks = [(decade, f"{10**decade / 1000:g}") for decade in decades]
    y = 70
    for whose in ("boxoffice", "nginx-lua"):
        shown = [name for name in names if f"% of {whose}:" in name]
        if not shown:
            continue
        at_x, at_y = axes(drawing, (60, y, 620, 260), f"at parts of the peak of {whose}", x_ticks, y_ticks, "ms")
        for index, name in enumerate(shown):
            percent = name.split(", ")[1].split(" %")[0]
            colour = HUES[("25", "50", "75").index(percent)]
            is_box = "boxoffice redis" in name
            drawing.line([(at_x(x), at_y(us)) for x, us in curves[name]], colour, 2.2, "" if is_box else "5 4")
            rate = statistics.median(counted.values(name, "rate"))
            row = y + 14 + index * 20
            drawing.line([(700, row - 4), (730, row - 4)], colour, 2.2, "" if is_box else "5 4")
            drawing.text(736, row, f"{name.split(': ')[1]}, {percent} %: {rate:,.0f}/s")
        y += 330
    drawing.write(path, WIDTH, y - 20)


def growth(path, counted):
    """CPU time a request as things grow: a panel a kind of growth."""
    panels = []
    for noun, steps in (("connection", CROWDS), ("sale", SALES)):
        shown = [("refusals", "boxoffice redis"), ("bookings", "boxoffice redis"), ("refusals", "epoll")]
        lines = {}
        for kind, subject in shown:
            line = [(step, counted.values(f"{kind}, {amount(step, noun)}: {subject}", "cpu_us")) for step in steps]
            lines[kind if subject != "epoll" else f"{kind}, bare epoll loop"] = line
        panels.append((f"{noun}s", lines))
    ledger = {}
    for cases in counted.rounds.values():
        for name, seen in cases.items():
            if "in the ledger" in name:
                count = int(seen["workload"].split()[1].replace(",", ""))
                ledger.setdefault(seen["subject"], {}).setdefault(count, []).append(seen["cpu_us"])
    panels.append(("bookings in the ledger", {f"bookings, {subject.split()[1]}": sorted(steps.items()) for subject, steps in ledger.items()}))
    drawing = Drawing()
    drawing.text(10, 22, "CPU time a request, server and Redis, microseconds: median, least to most", size=15, bold=True)
    x, drawn = 60, 0
    for title, lines in panels:
        lines = {words: [(step, each) for step, each in line if each] for words, line in lines.items()}
        lines = {words: line for words, line in lines.items() if line}
        if not lines:
            continue
        drawn += 1
        steps = sorted({step for line in lines.values() for step, _ in line})
        most = max(max(each) for line in lines.values() for _, each in line)
        tick = 10 ** math.floor(math.log10(most))
        tick = next(size for size in (tick / 5, tick / 2, tick, tick * 2) if most / size <= 6)
        y_ticks = [(number * tick, f"{number * tick:g}") for number in range(math.ceil(most / tick) + 1)]
        x_ticks = [(index, f"{step:,}") for index, step in enumerate(steps)]
        at_x, at_y = axes(drawing, (x, 80, 220, 220), title, x_ticks, y_ticks, "us")
        for index, (words, line) in enumerate(lines.items()):
            points = [(at_x(steps.index(step)), at_y(statistics.median(each))) for step, each in line]
            drawing.line(points, HUES[index], 2.2)
            for (px, py), (_, each) in zip(points, line):
                drawing.dot(px, py, HUES[index])
                drawing.line([(px, at_y(min(each))), (px, at_y(max(each)))], HUES[index], 1.2)
            drawing.line([(x, 338 + index * 18), (x + 24, 338 + index * 18)], HUES[index], 2.2)
            drawing.text(x + 30, 342 + index * 18, words)
        x += 300
    if drawn:
        drawing.write(path, WIDTH, 400)
