"""gzip for those who ask for it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

__all__ = ["SMALLEST", "accepted", "gzipped"]

SMALLEST = 1024
"""Bytes below which compressing costs more than it saves."""

_LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS


@lru_cache(maxsize=64)
def accepted(header: str) -> bool:
    """Whether an Accept-Encoding header wants gzip: by name, or as `*`, and not with a quality of zero."""
    wanted = parse_accept_header(header, Accept)
    named = [quality for name, quality in wanted if name.lower() in ("gzip", "x-gzip")]
    return max(named) > 0 if named else wanted.quality("*") > 0


def gzipped(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks as one gzip stream."""
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    for block in blocks:
        if packed := packer.compress(block):
            yield packed
    yield packer.flush()
