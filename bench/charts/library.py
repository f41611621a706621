"""matplotlib, which only charts need: a check for it, and the file of a chart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.servers import BenchmarkError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

__all__ = ["LIMIT_COLOR", "OTHER_COLOR", "OWN_COLOR", "check_plot_library", "save_picture"]

OWN_COLOR: Final = "#1f5fa8"
OTHER_COLOR: Final = "#8a94a3"
LIMIT_COLOR: Final = "#c2571a"


def check_plot_library() -> None:
    """Raise BenchmarkError if matplotlib is missing, so that a long measurement does not fail at its end."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise BenchmarkError("the plot needs matplotlib: pip install 'matplotlib>=3.10,<4'") from None


def save_picture(picture: Picture, path: Path) -> None:
    """Write a picture in the format of the file name. Its white background is readable in light and dark themes.

    The same numbers give the same bytes: an SVG file has no date and no random ids.
    """
    import matplotlib

    metadata = {"Date": None} if path.suffix == ".svg" else {}
    with matplotlib.rc_context({"svg.hashsalt": "bench", "svg.fonttype": "none"}):
        picture.savefig(path, dpi=100, metadata=metadata)
