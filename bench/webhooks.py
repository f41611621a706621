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
    memory_growth,
    run_command,
)
from chalk_flask.outbox.delivery import enqueue
from chalk_flask.outbox.event import Message, build_message
from chalk_flask.storage import COLLECTIONS
from chalk_flask.times import format_epoch_seconds

__all__ = ["measure_webhooks"]

READERS: Final = 4
PATH: Final = "/users?limit=100&offset=0"
ALLOWED: Final = ("--webhook-allowed-hosts", "127.0.0.1")
TIMEOUT_SECONDS: Final = 300.0


@dataclass(frozen=True)
class _Round:
    """Sorted response times of reads without and with deliveries, and the duration of the deliveries, in seconds."""

    without_deliveries: list[float]
    with_deliveries: list[float]
    seconds: float


def measure_webhooks(storage: str, count: int, load: LoadSettings) -> Iterator[Figure]:
    """Yield deliveries per second, the ratio of the readers' 99th percentiles, and the memory growth in MiB.

    Queues `count` deliveries in one part per round, each after a period of reads alone.
    """
    with counting_receiver() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
        options = ("--url", url, "--mode", "per_entity", "--json", *ALLOWED, "--storage", storage)
        webhook: str = run_command(*CHALK, "webhook", "create", *options).json["id"]
        with chalk_server(storage, *ALLOWED) as server:
            rounds, growth_mb = memory_growth(
                server, lambda: _measure_rounds(storage, webhook, count, server, receiver, load)
            )
    alone, beside = (
        median(_p99(measured.without_deliveries) for measured in rounds),
        median(_p99(measured.with_deliveries) for measured in rounds),
    )
    rate = len(rounds) * (count // len(rounds)) / sum(measured.seconds for measured in rounds)
    yield Figure("webhooks.per_second", rate, f"deliveries per second of {count:,}, beside {READERS} readers")
    note = f"99th percentile of reads: {beside * 1e3:.1f} ms with deliveries, {alone * 1e3:.1f} ms without"
    yield Figure(
        "webhooks.p99_ratio",
        median(_p99(measured.with_deliveries) / _p99(measured.without_deliveries) for measured in rounds),
        note,
    )
    yield Figure("webhooks.rss_mb", growth_mb, "MiB of memory growth of the server at most")


def _measure_rounds(
    storage: str, webhook: str, count: int, server: Server, receiver: Server, load: LoadSettings
) -> list[_Round]:
    response_times(server, PATH, READERS, _for_seconds(min(load.seconds, 1)))
    return [_measure_round(storage, webhook, count // load.rounds, server, receiver, load) for _ in range(load.rounds)]


def _measure_round(
    storage: str, webhook: str, count: int, server: Server, receiver: Server, load: LoadSettings
) -> _Round:
    alone = response_times(server, PATH, READERS, _for_seconds(load.seconds))
    expected = _received_count(receiver) + count
    _queue_events(storage, webhook, count)
    started = time.perf_counter()
    beside = response_times(server, PATH, READERS, lambda: _is_incomplete(receiver, expected, started))
    return _Round(alone, beside, time.perf_counter() - started)


def _queue_events(storage: str, webhook: str, count: int) -> None:
    """Queue the events of one import."""
    now = time.time()
    with open_store(storage, COLLECTIONS) as store, store.write("default") as transaction:
        messages = [(webhook, _message(webhook, number, format_epoch_seconds(now))) for number in range(count)]
        enqueue(transaction, messages, format_epoch_seconds(now), now)


def _message(webhook: str, number: int, timestamp: str) -> Message:
    change = {"entity_type": "user", "action": "updated", "sourced_id": f"user-{number}", "changedFields": ["email"]}
    return build_message("user.updated", webhook, "default", timestamp, None, number, {"single": change})


def _received_count(receiver: Server) -> int:
    return int(receiver.get("/")[1])


def _is_incomplete(receiver: Server, expected: int, started: float) -> bool:
    if time.perf_counter() - started > TIMEOUT_SECONDS:
        raise BenchmarkError(f"the deliveries took more than {TIMEOUT_SECONDS:g} s")
    return _received_count(receiver) < expected


def _for_seconds(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end


def _p99(sorted_times: list[float]) -> float:
    if not sorted_times:
        raise BenchmarkError("no read got a response")
    return sorted_times[int(len(sorted_times) * 0.99)]
