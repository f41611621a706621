"""Comparison with programs that people would use instead, in the same run and with the same users.

Names of servers and a district go in, ratios of rates and percentiles come out. `measure_comparison` is the entry
point: it installs the programs from the package registries first.
"""

from __future__ import annotations

from bench.comparison.installation import SERVER_NAMES
from bench.comparison.measurement import measure_comparison

__all__ = ["SERVER_NAMES", "measure_comparison"]
