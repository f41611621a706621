"""Iteration in batches that are limited in number or in bytes, for writes and look-ups of many records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from backends.base import Snapshot

__all__ = ["RecordId", "batched", "batched_by_size", "read_first", "read_in_parts"]

_Item = TypeVar("_Item")

RecordId: TypeAlias = tuple[str, str]
"""Collection and key of a record."""


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield the items in lists of `size`, the last list perhaps shorter.

    Reads the items lazily. (`itertools.batched` exists from Python 3.12 on only.)
    """
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def batched_by_size(
    items: Iterable[_Item], size_of: Callable[[_Item], int], max_items: int, max_size: int
) -> Iterator[list[_Item]]:
    """Yield the items in lists of at most `max_items`, whose sizes together are at most `max_size`.

    A larger item is alone in its list. Reads the items lazily, one ahead of the list.
    """
    batch: list[_Item] = []
    room = max_size
    for item in items:
        size = size_of(item)
        if size > room or len(batch) == max_items:
            if batch:
                yield batch
            batch, room = [], max_size
        batch.append(item)
        room -= size
    if batch:
        yield batch


def read_first(snapshot: Snapshot, ids: Sequence[RecordId], max_bytes: int) -> tuple[int, Mapping[RecordId, bytes]]:
    """Return the number of the first ids whose bodies have at most `max_bytes` together, and these bodies.

    It may be up to half of the largest possible number, but it is at least one. Unknown ids count, and have no body.
    Memory stays below `max_bytes` and one body.
    """
    count = len(ids)
    while (bodies := _read_within(snapshot, ids[:count], max_bytes)) is None:
        count //= 2
    return count, bodies


def read_in_parts(
    snapshot: Snapshot, ids: Sequence[RecordId], max_bytes: int
) -> Iterator[tuple[Sequence[RecordId], Mapping[RecordId, bytes]]]:
    """Yield the ids in parts with their bodies, in order. Each part is what `read_first` returns for the rest."""
    while ids:
        count, bodies = read_first(snapshot, ids, max_bytes)
        yield ids[:count], bodies
        ids = ids[count:]


def _read_within(snapshot: Snapshot, ids: Sequence[RecordId], max_bytes: int) -> Mapping[RecordId, bytes] | None:
    """Return the bodies of the existing records, or None if two or more have more than `max_bytes` together."""
    keys: dict[str, list[str]] = {}
    for collection, key in ids:
        keys.setdefault(collection, []).append(key)
    bodies: dict[RecordId, bytes] = {}
    total = 0
    for collection, collection_keys in keys.items():
        for key, body in snapshot.get_each(collection, collection_keys):
            total += len(body)
            if total > max_bytes and len(ids) > 1:
                return None
            bodies[collection, key] = body
    return bodies
