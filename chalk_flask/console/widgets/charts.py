"""Geometry of bar charts, which the macro `chart` renders as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chalk_flask.console.formatting import format_number

__all__ = ["BarChart", "bar_chart"]

WIDTH, HEIGHT = 720, 220
"""Size of a chart in units of its SVG view box."""
LEFT, TOP, BOTTOM = 52, 8, 26
"""Margins of a chart in the same units."""
GRID_LINES = 4
MAX_TICKS = 8
"""Maximum number of labels below the bars."""
GAP = 0.25
"""Part of the width of a group of bars that stays empty."""


@dataclass(frozen=True, slots=True)
class GridLine:
    """Horizontal line of a chart with its label."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """Bar of a chart. `text` names it with its value; `series` is the position of its series."""

    x: float
    y: float
    width: float
    height: float
    series: int
    text: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Label below a group of bars."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bar chart with up to three series. `rows` are the numbers as a table: label and a value for each series."""

    title: str
    series_names: list[str]
    rows: list[tuple[str, list[int]]]
    bars: list[Bar]
    ticks: list[Tick]
    grid: list[GridLine]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT


def bar_chart(title: str, labels: Sequence[str], series: Mapping[str, Sequence[int]]) -> BarChart:
    """Return a chart with a group of bars for each label. Each series has a name and a value for each label."""
    top = _round_up(max((value for values in series.values() for value in values), default=0))
    slot = (WIDTH - LEFT) / max(len(labels), 1)
    bar_width = slot * (1 - GAP) / max(len(series), 1)
    bars = [
        _bar(LEFT + slot * (place + GAP / 2) + bar_width * number, bar_width, value, top, number, f"{label}, {name}")
        for number, (name, values) in enumerate(series.items())
        for place, (label, value) in enumerate(zip(labels, values, strict=True))
    ]
    step = math.ceil(len(labels) / MAX_TICKS) or 1
    ticks = [Tick(round(LEFT + slot * (place + 0.5), 1), label) for place, label in enumerate(labels)][::step]
    rows = [(label, [values[place] for values in series.values()]) for place, label in enumerate(labels)]
    return BarChart(title, list(series), rows, bars, ticks, _grid(top))


def _bar(x: float, width: float, value: int, top: int, series: int, name: str) -> Bar:
    height = (HEIGHT - TOP - BOTTOM) * value / top
    text = f"{name}: {format_number(value)}"
    return Bar(round(x, 1), round(HEIGHT - BOTTOM - height, 1), round(width, 1), round(height, 1), series, text)


def _grid(top: int) -> list[GridLine]:
    usable = HEIGHT - TOP - BOTTOM
    values = range(0, top + 1, top // GRID_LINES)
    return [GridLine(round(HEIGHT - BOTTOM - usable * value / top, 1), format_number(value)) for value in values]


def _round_up(value: int) -> int:
    """Return the top of a chart for its largest value: GRID_LINES equal steps, each a digit followed by zeros."""
    step = max(math.ceil(value / GRID_LINES), 1)
    unit: int = 10 ** (len(str(step)) - 1)
    return GRID_LINES * math.ceil(step / unit) * unit
