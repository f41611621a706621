"""Charts of the benchmark as SVG or PNG files, drawn with matplotlib.

Measured numbers and a path go in. `write_comparison_chart` and `write_growth_chart` are the entry points.
"""

from __future__ import annotations

from bench.charts.comparison_chart import write_comparison_chart
from bench.charts.growth_chart import write_growth_chart
from bench.charts.library import check_plot_library

__all__ = ["check_plot_library", "write_comparison_chart", "write_growth_chart"]
