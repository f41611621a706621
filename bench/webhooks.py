"""Webhooks: how fast deliveries reach a receiver beside a server that answers reads, and what the readers notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from backends import open_store
from bench.figures import Figure
from bench.load import waits
from bench.measuring import Effort
from bench.processes import CHALK, Failed, Server, chalk_server, counting_receiver, growth_meanwhile, ran
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox.delivery import enqueue
from chalk_flask.outbox.event import Message, build_message
from chalk_flask.storage import COLLECTIONS

__all__ = ["webhooks"]

READERS = 4
PATH = "/users?limit=100&offset=0"
ALLOWED = ("--webhook-allowed-hosts", "127.0.0.1")
PATIENCE = 300.0


@dataclass(frozen=True)
class _Turn:
    """The waits of reads alone, those beside deliveries, and the seconds that these took."""

    alone: list[float]
    beside: list[float]
    seconds: float


def webhooks(storage: str, count: int, effort: Effort) -> Iterator[Figure]:
    """Deliveries a second, the 99th percentile of reads meanwhile over that without, and MiB by which memory grew.

    So many deliveries are made in as many parts as there are rounds, each after a while of reads alone.
    """
    with counting_receiver() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
        words = ("--url", url, "--mode", "per_entity", "--json", *ALLOWED, "--storage", storage)
        hook: str = ran(*CHALK, "webhook", "create", *words).json["id"]
        with chalk_server(storage, *ALLOWED) as server:
            turns, grown = growth_meanwhile(server, lambda: _turns(storage, hook, count, server, receiver, effort))
    alone, beside = median(_p99(turn.alone) for turn in turns), median(_p99(turn.beside) for turn in turns)
    rate = len(turns) * (count // len(turns)) / sum(turn.seconds for turn in turns)
    yield Figure("webhooks.per_second", rate, f"deliveries a second of {count:,}, beside {READERS} readers")
    note = f"{beside * 1e3:.1f} ms at the 99th percentile of reads meanwhile, over {alone * 1e3:.1f} without"
    yield Figure("webhooks.p99_ratio", median(_p99(turn.beside) / _p99(turn.alone) for turn in turns), note)
    yield Figure("webhooks.rss_mb", grown, "MiB by which the server grew at most")


def _turns(storage: str, hook: str, count: int, server: Server, receiver: Server, effort: Effort) -> list[_Turn]:
    waits(server, PATH, READERS, _for(min(effort.seconds, 1)))
    return [_turn(storage, hook, count // effort.rounds, server, receiver, effort) for _ in range(effort.rounds)]


def _turn(storage: str, hook: str, count: int, server: Server, receiver: Server, effort: Effort) -> _Turn:
    alone = waits(server, PATH, READERS, _for(effort.seconds))
    wanted = _received(receiver) + count
    _enqueue(storage, hook, count)
    began = time.perf_counter()
    beside = waits(server, PATH, READERS, lambda: _wanting(receiver, wanted, began))
    return _Turn(alone, beside, time.perf_counter() - began)


def _enqueue(storage: str, hook: str, count: int) -> None:
    """Tell of so many changes, as one import would."""
    now = time.time()
    with open_store(storage, COLLECTIONS) as store, store.write("default") as transaction:
        messages = [(hook, _message(hook, number, format_instant(now))) for number in range(count)]
        enqueue(transaction, messages, format_instant(now), now)


def _message(hook: str, number: int, moment: str) -> Message:
    change = {"entity_type": "user", "action": "updated", "sourced_id": f"user-{number}", "changedFields": ["email"]}
    return build_message("user.updated", hook, "default", moment, None, number, {"single": change})


def _received(receiver: Server) -> int:
    return int(receiver.get("/")[1])


def _wanting(receiver: Server, wanted: int, began: float) -> bool:
    if time.perf_counter() - began > PATIENCE:
        raise Failed(f"the deliveries took more than {PATIENCE:g} s")
    return _received(receiver) < wanted


def _for(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end


def _p99(sorted_waits: list[float]) -> float:
    if not sorted_waits:
        raise Failed("no read was answered")
    return sorted_waits[int(len(sorted_waits) * 0.99)]
