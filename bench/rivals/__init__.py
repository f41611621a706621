"""Rivals: programs that people would use instead, measured beside the service in the same run.

Names of rivals and a district go in, ratios of rates and percentiles come out. `measure_rivals` is the entry point: it
installs the programs from the package registries first.
"""

from __future__ import annotations

from bench.rivals.installation import RIVALS
from bench.rivals.measurement import measure_rivals

__all__ = ["RIVALS", "measure_rivals"]
