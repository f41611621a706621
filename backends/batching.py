"""Iteration in batches, for writes and look-ups of many records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

__all__ = ["batched"]

_Item = TypeVar("_Item")


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield the items in lists of `size`, the last list perhaps shorter.

    Reads the items lazily. (`itertools.batched` exists from Python 3.12 on only.)
    """
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
