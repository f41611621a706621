"""Chart of the time of each read over the number of users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.charts.library import LIMIT_COLOR, save_picture

__all__ = ["write_growth_chart"]

MARKERS: Final = "os^vD<>pX"


def write_growth_chart(path: Path, sizes: Sequence[int], times: Mapping[str, Sequence[float]], limit: float) -> None:
    """Write a chart of the times of each read, relative to the smallest size. `limit` is drawn as a line."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(9, 4.5), layout="constrained")
    axes = picture.subplots()
    for (name, values), marker in zip(times.items(), MARKERS, strict=True):
        axes.plot(sizes, values, marker=marker, label=name, lw=1.2)
    axes.axhline(limit, color=LIMIT_COLOR, ls="--", label="limit")
    axes.set(xscale="log", xlabel="users", ylabel=f"time per read, {sizes[0]:,} users = 1")
    axes.set(ylim=(0, max(2.0, *(1.1 * max(values) for values in times.values()))))
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(ncols=5, loc="lower left")
    save_picture(picture, path)
