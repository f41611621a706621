"""Webhooks: rate of deliveries beside a server that handles reads, and the effect on the readers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from backends import open_store
from bench.figures import Figure
from bench.load_generator import response_times
from bench.reads import LoadSettings
from bench.servers import (
    CHALK,
    BenchmarkError,
    Server,
    chalk_server,
    counting_receiver,
    cpu_seconds,
    memory_growth,
    run_command,
)
from chalk_flask.outbox.delivery import enqueue
from chalk_flask.outbox.event import Message, build_message
from chalk_flask.storage import COLLECTIONS
from chalk_flask.times import format_epoch_seconds
from chalk_flask.webhooks.delivery.rate_limiter import MAX_ATTEMPTS_PER_SECOND

__all__ = ["measure_webhooks"]

READERS: Final = 4
PATH: Final = "/users?limit=100&offset=0"
ALLOWED: Final = ("--webhook-allowed-hosts", "127.0.0.1")
TIMEOUT_SECONDS: Final = 300.0
POLL_SECONDS: Final = 0.02


@dataclass(frozen=True)
class _Round:
    """Sorted response times of reads without and with deliveries, and the duration of the deliveries, in seconds."""

    without_deliveries: list[float]
    with_deliveries: list[float]
    seconds: float


def measure_webhooks(storage: str, count: int, load: LoadSettings) -> Iterator[Figure]:
    """Yield deliveries per second, the ratio of the readers' 99th percentiles, the CPU time and the memory growth.

    There are at least `count` deliveries. Each round has a period of reads beside deliveries, and one without before
    and after it. The ratio is the median over the rounds, so a round that another program disturbs has no influence.
    """
    with counting_receiver() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
        options = ("--url", url, "--mode", "per_entity", "--json", *ALLOWED, "--storage", storage)
        webhook: str = run_command(*CHALK, "webhook", "create", *options).json["id"]
        with chalk_server(storage, *ALLOWED) as server:
            count = max(count // load.rounds, round(load.seconds * MAX_ATTEMPTS_PER_SECOND))
            deliveries = _Deliveries(storage, webhook, receiver, count)
            rounds, growth_mb = memory_growth(server, lambda: _measure_rounds(deliveries, server, load))
            cpu = _cpu_seconds_per_delivery(deliveries, server)
    rate = len(rounds) * count / sum(measured.seconds for measured in rounds)
    yield Figure(
        "webhooks.per_second", rate, f"deliveries per second of {len(rounds) * count:,}, beside {READERS} readers"
    )
    pairs = [(_p99(measured.with_deliveries), _p99(measured.without_deliveries)) for measured in rounds]
    ratios = sorted(beside / alone for beside, alone in pairs)
    times = [median(side) * 1e3 for side in zip(*pairs, strict=True)]
    note = f"99th percentile of reads: {times[0]:.1f} ms with deliveries, {times[1]:.1f} ms without"
    yield Figure("webhooks.p99_ratio", median(ratios), note + f" ({ratios[0]:.3g} to {ratios[-1]:.3g})")
    yield Figure("webhooks.cpu", cpu * 1e6, f"µs of CPU of the server per delivery, of {count:,} without readers")
    yield Figure("webhooks.rss_mb", growth_mb, "MiB of memory growth of the server at most")


def _measure_rounds(deliveries: _Deliveries, server: Server, load: LoadSettings) -> list[_Round]:
    _response_times_alone(server, min(load.seconds, 1))
    return [_measure_round(deliveries, server, load.seconds / 2) for _ in range(load.rounds)]


def _measure_round(deliveries: _Deliveries, server: Server, seconds: float) -> _Round:
    before = _response_times_alone(server, seconds)
    is_incomplete, started = deliveries.queue(), time.perf_counter()
    beside = response_times(server, PATH, READERS, is_incomplete)
    ended = time.perf_counter()
    return _Round(sorted(before + _response_times_alone(server, seconds)), beside, ended - started)


def _response_times_alone(server: Server, seconds: float) -> list[float]:
    end = time.perf_counter() + seconds
    return response_times(server, PATH, READERS, lambda: time.perf_counter() < end)


def _cpu_seconds_per_delivery(deliveries: _Deliveries, server: Server) -> float:
    """Return the CPU time of the server for a delivery, with reading it and saving its result."""
    is_incomplete, before = deliveries.queue(), cpu_seconds(server.pid)
    while is_incomplete():
        time.sleep(POLL_SECONDS)
    return (cpu_seconds(server.pid) - before) / deliveries.count


@dataclass(frozen=True)
class _Deliveries:
    """Store with a webhook, the receiver of its deliveries, and their number in each round."""

    storage: str
    webhook: str
    receiver: Server
    count: int

    def queue(self) -> Callable[[], bool]:
        """Queue the deliveries of a round, and return a function that is true until all have arrived."""
        expected = self._received_count() + self.count
        _queue_events(self.storage, self.webhook, self.count)
        end = time.perf_counter() + TIMEOUT_SECONDS

        def is_incomplete() -> bool:
            if time.perf_counter() > end:
                raise BenchmarkError(f"the deliveries took more than {TIMEOUT_SECONDS:g} s")
            return self._received_count() < expected

        return is_incomplete

    def _received_count(self) -> int:
        return int(self.receiver.get("/")[1])


def _queue_events(storage: str, webhook: str, count: int) -> None:
    """Queue the events of one import."""
    now = time.time()
    with open_store(storage, COLLECTIONS) as store, store.write("default") as transaction:
        messages = [(webhook, _message(webhook, number, format_epoch_seconds(now))) for number in range(count)]
        enqueue(transaction, messages, format_epoch_seconds(now), now)


def _message(webhook: str, number: int, timestamp: str) -> Message:
    change = {"entity_type": "user", "action": "updated", "sourced_id": f"user-{number}", "changedFields": ["email"]}
    return build_message("user.updated", webhook, "default", timestamp, None, number, {"single": change})


def _p99(sorted_times: list[float]) -> float:
    if not sorted_times:
        raise BenchmarkError("no read got a response")
    return sorted_times[int(len(sorted_times) * 0.99)]
