"""How costs grow with the number of connections, and of users in the store: a table and a plot."""

from dataclasses import dataclass
from typing import Final

from bench import svg
from bench.record import Results
from bench.text import shown, table


@dataclass(frozen=True)
class Curve:
    """A cost over a number: the figure's name with `{}` for the number."""

    title: str
    of: str
    figure: str
    unit: str
    scale: float = 1


ENGINES: Final = {"redis": "on Redis", "memory": "embedded"}

CURVES: Final = (
    Curve("memory a connection", "connections", "connections.{engine}.{size}.bytes", "KB", 1e-3),
    Curve("CPU a connect", "connections", "connections.{engine}.{size}.connect.service_us", "µs"),
    Curve("write, service CPU a user", "users", "users.{engine}.{size}.write.service_us", "µs"),
    Curve("write, Redis CPU a user", "users", "users.{engine}.{size}.write.redis_us", "µs"),
    Curve("query of 100 cold users, service CPU a user", "users", "users.{engine}.{size}.query.service_us", "µs", 0.01),
    Curve("listing, service CPU a user", "users", "users.{engine}.{size}.list.service_us", "µs"),
    Curve("store's bytes a user set by calls", "users", "users.{engine}.{size}.bytes", "B"),
)


def points(results: Results, curve: Curve, engine: str) -> list[tuple[int, float]]:
    """(number, cost), from few to many."""
    before, after = curve.figure.replace("{engine}", engine).split("{size}")
    found = []
    for name, figure in results.figures.items():
        size = name.removeprefix(before).removesuffix(after)
        if name == f"{before}{size}{after}" and size.isdecimal():
            found.append((int(size), figure.median * curve.scale))
    return sorted(found)


def plot(results: Results) -> str:
    """All curves, as SVG."""
    panels = []
    for curve in CURVES:
        lines = {label: points(results, curve, engine) for engine, label in ENGINES.items()}
        panels.append(svg.Panel(f"{curve.title}, {curve.unit}", curve.of, lines))
    return svg.draw(panels)


def section(results: Results) -> str:
    """The same as a table."""
    rows = []
    for curve in CURVES:
        for engine, label in ENGINES.items():
            if found := points(results, curve, engine):
                costs = " · ".join(f"{shown(value)} ({size:,})" for size, value in found)
                rows.append([f"{curve.title}, {curve.unit}", label, costs])
    if not rows:
        return ""
    head = ["cost", "engine", "cost (at how many)"]
    return f"## Growth\n\n![costs over numbers of connections and users](growth.svg)\n\n{table(head, rows)}"
