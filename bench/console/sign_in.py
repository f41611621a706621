"""Sign-in: time for known names over that for unknown names, so that the time does not reveal which names exist."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Final

from bench.console.browser import Browser
from bench.console.preparation import Accounts
from bench.figures import Figure
from bench.servers import BenchmarkError, Server

__all__ = ["measure_sign_in"]

ATTEMPTS_PER_NAME: Final = 4
"""Attempts per account; the console allows five per minute."""
ATTEMPTS_PER_ADDRESS: Final = 16
"""Attempts per address; the console allows twenty per minute."""
WRONG_PASSWORD: Final = "not the password of anyone"
REJECTED: Final = 422


def measure_sign_in(server: Server, accounts: Accounts, requests: int) -> Iterator[Figure]:
    """Yield the larger of the median times of a wrong password for known and for unknown names, over the smaller one.

    Each name is tried `requests` times, but at most four times.
    """
    known, unknown = [], []
    pairs = [(name, f"un{name}") for _ in range(min(requests, ATTEMPTS_PER_NAME)) for name in accounts.others]
    size = ATTEMPTS_PER_ADDRESS // 2
    for number, start in enumerate(range(0, len(pairs), size), 2):
        browser = Browser(server, f"127.0.1.{number}")
        fields = {**browser.hidden_fields("/login", "/login"), "password": WRONG_PASSWORD}
        for first, second in pairs[start : start + size]:
            known.append(_attempt(browser, {**fields, "name": first}))
            unknown.append(_attempt(browser, {**fields, "name": second}))
        browser.close()
    times = median(known) * 1e3, median(unknown) * 1e3
    note = f"{times[0]:.2f} ms for known names, {times[1]:.2f} ms for unknown ones, medians of {len(known)}"
    yield Figure("console.sign_in", max(times) / min(times), note)


def _attempt(browser: Browser, fields: dict[str, str]) -> float:
    reply = browser.post("/login", fields)
    if reply.status != REJECTED:
        raise BenchmarkError(f"a wrong password was answered with {reply.status}: {reply.body[:300]!r}")
    return reply.seconds
