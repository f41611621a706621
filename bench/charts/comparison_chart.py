"""Chart of the responses per second of the service and of other servers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.charts.library import LIMIT_COLOR, OTHER_COLOR, OWN_COLOR, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_comparison_chart"]

TITLES: Final = {"get": "One user by id", "page": "100 users from a random offset"}
LIMITS: Final = frozenset({"baseline", "nginx"})
"""Servers that send ready-made responses, so they show the limits of Python and of the machine."""


def write_comparison_chart(path: Path, rates: Mapping[str, Mapping[str, float]]) -> None:
    """Write a chart of the responses per second: by kind of request, and then by label of the server.

    Labels of the service begin with `Chalk Flask`. Other kinds than those of TITLES are not drawn.
    """
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(9, 6), layout="constrained")
    for axes, (kind, title) in zip(picture.subplots(2, 1), TITLES.items(), strict=True):
        _draw_bars(axes, title, rates[kind])
    save_picture(picture, path)


def _draw_bars(axes: Axes, title: str, rates: Mapping[str, float]) -> None:
    labels = sorted(rates, key=lambda label: rates[label])
    bars = axes.barh(labels, [rates[label] for label in labels], color=[_color(label) for label in labels])
    axes.bar_label(bars, [f"{rates[label]:,.0f}" for label in labels], padding=4)
    axes.set(xscale="log", xlim=(10, 3 * max(rates.values())), xlabel="responses per second, logarithmic")
    axes.set_title(title, loc="left")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _color(label: str) -> str:
    if label.startswith("Chalk Flask"):
        return OWN_COLOR
    return LIMIT_COLOR if label in LIMITS else OTHER_COLOR
