"""Admin console: server time and size of every page, and what the console costs the API."""

from __future__ import annotations

from bench.console.measurements import measure_console

__all__ = ["measure_console"]
