"""Small plots: a panel each, the horizontal axis logarithmic, the vertical one from zero."""

from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import Final

WIDTH, HEIGHT = 320, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 34, 38
COLUMNS = 3
COLOURS: Final = ("#1f6fb4", "#d0662a", "#3c8d40")

STYLE: Final = (
    "<style>text{font:11px sans-serif;fill:#333}.title{font-weight:bold}.axis{stroke:#bbb}"
    ".line{fill:none;stroke-width:2}</style>"
)


@dataclass(frozen=True)
class Panel:
    """A title, what is counted, and (number, value) points by the line's label."""

    title: str
    of: str
    lines: dict[str, list[tuple[int, float]]]


def draw(panels: list[Panel]) -> str:
    """An SVG document."""
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT
    body = "".join(
        f'<g transform="translate({index % COLUMNS * WIDTH},{index // COLUMNS * HEIGHT})">{_panel(panel)}</g>\n'
        for index, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f'{STYLE}<rect width="100%" height="100%" fill="white"/>\n{body}</svg>\n'
    )


def _panel(panel: Panel) -> str:
    everything = [point for line in panel.lines.values() for point in line]
    title = _text(LEFT, 18, panel.title, "title")
    if not everything:
        return title + _text(LEFT, HEIGHT / 2, "not measured")
    sizes = sorted({size for size, _ in everything})
    low, high = log10(sizes[0]), log10(sizes[-1])
    top = _round_up(max(value for _, value in everything))

    def place(size: int, value: float) -> tuple[float, float]:
        share = (log10(size) - low) / (high - low) if high > low else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    drawn = [title, _axes(top)]
    drawn += [_text(place(size, 0)[0], HEIGHT - BOTTOM + 14, _short(size), anchor="middle") for size in sizes]
    drawn.append(_text(WIDTH - RIGHT, HEIGHT - 8, panel.of, anchor="end"))
    present = [(label, line) for label, line in panel.lines.items() if line]
    for index, (label, line) in enumerate(present):
        drawn.append(_line([place(*point) for point in line], COLOURS[index]))
        drawn.append(f'<rect x="{LEFT + index * 90}" y="{HEIGHT - 16}" width="9" height="9" fill="{COLOURS[index]}"/>')
        drawn.append(_text(LEFT + 13 + index * 90, HEIGHT - 8, label))
    return "".join(drawn)


def _axes(top: float) -> str:
    bottom, drawn = HEIGHT - BOTTOM, []
    for share in (0, 0.5, 1):
        y = bottom - share * (bottom - TOP)
        drawn.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(_text(LEFT - 6, y + 4, f"{top * share:,g}", anchor="end"))
    return "".join(drawn)


def _round_up(value: float) -> float:
    """The next number that reads well, also its half."""
    size = 10.0 ** floor(log10(value)) if value > 0 else 1
    return next(step * size for step in (1, 2, 4, 6, 8, 10) if step * size >= value)


def _line(places: list[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places)
    return f'<polyline class="line" stroke="{colour}" points="{path}"/>{dots}'


def _text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _short(number: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)
