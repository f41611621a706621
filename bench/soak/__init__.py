"""Soak test: memory and response times of a service under mixed load for a long time.

A store and a duration go in. Figures come out, and a plot if a path is given. The entry point is `measure_soak`.
"""

from __future__ import annotations

from bench.soak.soak import measure_soak

__all__ = ["measure_soak"]
