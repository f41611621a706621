"""What is known of questions that a SQLite store was asked: how to ask them, how many match, and which rows."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeAlias

from backends.query import OrderBy, Where
from backends.sqlite.compiler import Fragment

__all__ = ["CachedQuery", "Kind", "QueryCache"]

Kind: TypeAlias = tuple[str, str, Where, tuple[OrderBy, ...]]


@dataclass(slots=True)
class CachedQuery:
    """What is known of one question (all of a query but its page) at one revision of one tenant."""

    revision: int
    with_: Fragment
    rows: Fragment
    order: Fragment
    quick: Fragment | None = None
    """The same rows where a range finds them; quicker to count, and to have when they are few."""
    in_order: bool = False
    """Whether they come in the order that is asked for."""
    total: int | None = None
    ids: array[int] | None = None
    rising: bool = False
    asked: int = field(default=0)
    numbering: threading.Lock = field(default_factory=threading.Lock)


class QueryCache:
    """Plans of late questions, shared by all snapshots, bounded in number and in bytes of row numbers."""

    def __init__(self, entries: int = 4096, max_bytes: int = 64 << 20) -> None:
        self._plans: OrderedDict[Kind, CachedQuery] = OrderedDict()
        self._entries, self._bytes, self._used = entries, max_bytes, 0
        self._lock = threading.Lock()

    def get(self, kind: Kind, revision: int) -> CachedQuery | None:
        """The plan, unless it is of another revision."""
        with self._lock:
            plan = self._plans.get(kind)
            if plan is None or plan.revision != revision:
                return None
            self._plans.move_to_end(kind)
            return plan

    def store(self, kind: Kind, plan: CachedQuery) -> None:
        """Remember a plan, or that it has grown by its array."""
        with self._lock:
            if old := self._plans.pop(kind, None):
                self._used -= _size(old) if old is not plan else 0
            self._plans[kind] = plan
            self._used += _size(plan)
            while len(self._plans) > self._entries or (self._used > self._bytes and len(self._plans) > 1):
                self._used -= _size(self._plans.popitem(last=False)[1])


def _size(plan: CachedQuery) -> int:
    return 8 * len(plan.ids) if plan.ids is not None else 0
