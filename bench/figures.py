"""Figures of the benchmark, their targets, and the table."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

__all__ = ["TARGETS", "Figure", "Target", "describe_machine", "format_row", "format_table", "missed_targets"]


class Target(NamedTuple):
    """Lower or upper limit of a figure."""

    comparison: Literal["≥", "≤"]
    value: float

    def is_met(self, value: float) -> bool:
        """Return True if a figure meets the target."""
        return value >= self.value if self.comparison == "≥" else value <= self.value


READ_TARGETS: Final = {
    "get": Target("≥", 0.95),
    "page0": Target("≥", 0.8),
    "deep": Target("≥", 0.8),
    "filter": Target("≥", 0.8),
    "filterdeep": Target("≥", 0.4),
    "sort": Target("≥", 0.75),
    "fields": Target("≥", 0.65),
    "classstudents": Target("≥", 0.85),
    "schoolstudents": Target("≥", 0.8),
}
"""Targets of the reads. The 99th percentiles of their response times have another target."""

TARGETS: Final = {
    **READ_TARGETS,
    **{f"{name}.p99": Target("≤", 1.5) for name in READ_TARGETS},
    "stream": Target("≥", 0.5),
    "stream.memory": Target("≤", 8),
    "walk.missing": Target("≤", 0),
    "walk.late_over_early": Target("≤", 1.5),
    "import": Target("≤", 3.8),
    "import.peak": Target("≤", 250),
    "import.again": Target("≤", 0.65),
    "import.again.changed": Target("≤", 0),
    "import.delta": Target("≤", 0.1),
    "import.sequence": Target("≤", 1.1),
    "import.beside": Target("≤", 1.5),
    "import.beside.put": Target("≤", 2),
    "bearer": Target("≤", 20),
    "limited": Target("≥", 0.2),
    "token": Target("≤", 5),
    "put": Target("≤", 10),
    "put.lost": Target("≤", 0),
    "observability": Target("≤", 1.03),
    "processes.get": Target("≥", 1.7),
    "processes.page0": Target("≥", 1.7),
    "webhooks.per_second": Target("≥", 300),
    "webhooks.p99_ratio": Target("≤", 2),
    "webhooks.rss_mb": Target("≤", 50),
    "console.sign_in": Target("≤", 1.05),
    "console.upload": Target("≤", 20),
    "console.import": Target("≤", 3),
    "console.api": Target("≤", 1.02),
    "availability.calm": Target("≤", 60),
    "availability.silent": Target("≤", 1),
    "availability.head": Target("≤", 1),
    "availability.body": Target("≤", 1),
    "availability.unread": Target("≤", 1),
    "availability.sockets": Target("≤", 1),
    "availability.dripping": Target("≤", 0),
    "availability.stream": Target("≤", 60),
    "availability.filter": Target("≤", 100),
    "availability.failed": Target("≤", 0),
    "comparison.sqlalchemy.page": Target("≥", 20),
    "comparison.datasette.page": Target("≥", 5),
    "comparison.json-server.page": Target("≥", 4),
    "comparison.baseline.p99": Target("≤", 2.5),
    "comparison.baseline.collection": Target("≥", 0.35),
    "soak.slope": Target("≤", 1),
    "soak.failed": Target("≤", 0),
}
TARGETS_BY_PREFIX: Final = {
    "growth.": Target("≤", 1.5),
    "console.page ": Target("≤", 100),
    "console.size ": Target("≤", 60),
}
"""Targets of all figures whose names begin so."""


@dataclass(frozen=True)
class Figure:
    """Measured number with a note on how it was measured."""

    name: str
    value: float
    note: str

    @property
    def target(self) -> Target | None:
        """Target of the figure, or None if it has none."""
        found = (target for prefix, target in TARGETS_BY_PREFIX.items() if self.name.startswith(prefix))
        return next(found, TARGETS.get(self.name))

    @property
    def misses_target(self) -> bool:
        """True if the figure has a target and does not meet it."""
        return self.target is not None and not self.target.is_met(self.value)


def describe_machine(users: int, load_tool: str) -> str:
    """Return the conditions of the measurement in a line."""
    return (
        f"{users:,} users, {os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version},"
        f" load by {load_tool}, load average {os.getloadavg()[0]:.1f} at the start"
    )


def format_table(figures: Iterable[Figure]) -> str:
    """Return the figures as a Markdown table."""
    return "\n".join(["| Figure | Value | Target | Measured |", "|---|---:|---:|---|", *map(format_row, figures)])


def format_row(figure: Figure) -> str:
    """Return a row of the table. It marks a figure that misses its target."""
    target = f"{figure.target.comparison} {figure.target.value:g}" if figure.target else ""
    mark = ", missed" if figure.misses_target else ""
    return f"| {figure.name} | {figure.value:.3f} | {target}{mark} | {figure.note} |"


def missed_targets(figures: Iterable[Figure]) -> list[str]:
    """Return a line for every figure that misses its target."""
    return [
        f"{figure.name} is {figure.value:.3f}; the target is {figure.target.comparison} {figure.target.value:g}"
        for figure in figures
        if figure.target and figure.misses_target
    ]
