"""Plot of a soak test: memory above, response times below, both over minutes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.charts.library import LIMIT_COLOR, OWN_COLOR, save_picture
from bench.soak.memory import MemorySample, fit_trend, period_floors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_plot"]

PERIODS: Final = 60
"""Number of periods for which percentiles of response times are drawn."""


def write_plot(
    path: Path, samples: Sequence[MemorySample], reads: Sequence[tuple[float, float]], warm_up_seconds: float
) -> None:
    """Write the plot. The time before `warm_up_seconds` is shaded, and has no part in the line."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(9, 6), layout="constrained")
    memory, times = picture.subplots(2, 1, sharex=True)
    _draw_memory(memory, samples, warm_up_seconds)
    for share, color in ((0.5, OWN_COLOR), (0.99, LIMIT_COLOR)):
        points = _percentiles(reads, share)
        times.plot([at / 60 for at, _ in points], [ms for _, ms in points], label=f"p{share * 100:g}", color=color)
    times.set(ylabel="ms per read", xlabel="minutes", yscale="log")
    for axes in (memory, times):
        axes.axvspan(0, warm_up_seconds / 60, color="#eeeeee", zorder=0)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    save_picture(picture, path)


def _draw_memory(axes: Axes, samples: Sequence[MemorySample], warm_up_seconds: float) -> None:
    """Draw the memory with and without imports, and the line through its floors after the warm-up."""
    minutes = [sample.seconds / 60 for sample in samples]
    everything = [sample.serving + sample.others for sample in samples]
    axes.plot(minutes, everything, label="with processes that import", color="#b0b7c3", lw=0.8)
    axes.plot(minutes, [sample.serving for sample in samples], label="serving processes", color=OWN_COLOR, lw=1)
    floors = period_floors([sample for sample in samples if sample.seconds >= warm_up_seconds] or samples[-1:])
    trend, ends = fit_trend(floors), (warm_up_seconds, samples[-1].seconds)
    label = f"floor: {trend.slope * 600:+.2f} MiB per 10 minutes"
    axes.plot([at / 60 for at, _ in floors], [size for _, size in floors], ".", color=LIMIT_COLOR)
    axes.plot([at / 60 for at in ends], [trend.at(at) for at in ends], label=label, color=LIMIT_COLOR)
    axes.set(ylabel="MiB (PSS)", ylim=(0, None), title="Memory and response times under mixed load")


def _percentiles(reads: Sequence[tuple[float, float]], share: float) -> list[tuple[float, float]]:
    """Return the middle of each period in seconds, and a percentile of its durations in milliseconds."""
    length = max((at for at, _ in reads), default=0) / PERIODS
    periods: dict[int, list[float]] = {}
    for at, seconds in reads:
        periods.setdefault(min(int(at / length), PERIODS - 1), []).append(seconds * 1e3)
    return [
        ((number + 0.5) * length, sorted(durations)[int(len(durations) * share)])
        for number, durations in sorted(periods.items())
    ]
