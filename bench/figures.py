"""Figures, the bars that they should pass, and the table."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["BARS", "Bar", "Figure", "machine", "row", "table", "verdicts"]


class Bar(NamedTuple):
    """What a figure should be: at least, or at most, a number."""

    sense: Literal["≥", "≤"]
    value: float

    def passed_by(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return value >= self.value if self.sense == "≥" else value <= self.value


BARS = {
    "get": Bar("≥", 0.6),
    "page0": Bar("≥", 0.45),
    "deep": Bar("≥", 0.4),
    "filter": Bar("≥", 0.45),
    "filterdeep": Bar("≥", 0.4),
    "classstudents": Bar("≥", 0.45),
    "schoolstudents": Bar("≥", 0.4),
    "fields": Bar("≥", 0.22),
    "stream": Bar("≥", 0.3),
    "stream.memory": Bar("≤", 8),
    "walk.missing": Bar("≤", 0),
    "walk.late_over_early": Bar("≤", 1.5),
    "import": Bar("≤", 6),
    "import.peak": Bar("≤", 250),
    "import.again": Bar("≤", 1),
    "import.again.changed": Bar("≤", 0),
    "import.delta": Bar("≤", 0.15),
    "import.sequence": Bar("≤", 1.1),
    "bearer": Bar("≤", 20),
    "limited": Bar("≥", 0.2),
    "token": Bar("≤", 5),
    "put": Bar("≤", 10),
    "put.lost": Bar("≤", 0),
    "webhooks.per_second": Bar("≥", 300),
    "webhooks.p99_ratio": Bar("≤", 2),
    "webhooks.rss_mb": Bar("≤", 50),
}
GROWTH = Bar("≤", 1.5)


@dataclass(frozen=True)
class Figure:
    """One number, and in words what it was made of."""

    name: str
    value: float
    note: str

    @property
    def bar(self) -> Bar | None:
        """What it should be; None where that is not said."""
        return GROWTH if self.name.startswith("growth.") else BARS.get(self.name)


def machine(users: int, maker: str) -> str:
    """On what was measured, in a line."""
    return (
        f"{users:,} users, {os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version},"
        f" load by {maker}"
    )


def table(figures: Iterable[Figure]) -> str:
    """The figures as a table in Markdown."""
    return "\n".join(["| Figure | Value | Bar | Measured |", "|---|---:|---:|---|", *map(row, figures)])


def row(figure: Figure) -> str:
    """A line of the table."""
    bar = f"{figure.bar.sense} {figure.bar.value:g}" if figure.bar else ""
    return f"| {figure.name} | {figure.value:.3f} | {bar} | {figure.note} |"


def verdicts(figures: Iterable[Figure]) -> list[str]:
    """A line for every figure that does not pass its bar."""
    return [
        f"{figure.name} is {figure.value:.3f}, and should be {figure.bar.sense} {figure.bar.value:g}"
        for figure in figures
        if figure.bar and not figure.bar.passed_by(figure.value)
    ]
