"""Envelopes around rendered documents: the bodies of responses, in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from chalk_flask.api.errors import status_entry
from chalk_flask.api.reads.query_params import ParameterWarning
from chalk_flask.oneroster.resource_type import ResourceType

__all__ = ["collection_envelope", "single_envelope", "stream_envelope"]

BLOCK_BYTES = 256 * 1024
"""Size at which a block is yielded."""
MAX_BLOCK_BYTES = 768 * 1024
"""Maximum size of a block. Larger ones are split into blocks of `BLOCK_BYTES`."""


def collection_envelope(
    resource_type: ResourceType, documents: Iterable[bytes], warnings: tuple[ParameterWarning, ...]
) -> Iterator[bytes]:
    """Yield the body of a collection response in blocks."""
    return stream_envelope(b'{"%b":[' % resource_type.name.encode(), documents, b"]" + _closing(warnings))


def single_envelope(
    resource_type: ResourceType, documents: Iterable[bytes], warnings: tuple[ParameterWarning, ...] = ()
) -> Iterator[bytes]:
    """Yield the body of a response with one object in blocks."""
    return stream_envelope(b'{"%b":' % resource_type.singular_name.encode(), documents, _closing(warnings))


def stream_envelope(head: bytes, chunks: Iterable[bytes], tail: bytes) -> Iterator[bytes]:
    """Yield head, chunks joined by commas, and tail, in blocks of BLOCK_BYTES to MAX_BLOCK_BYTES.

    The last block may be smaller. A small body is one block.
    """
    parts, size, separator = [head], 0, b""
    for chunk in chunks:
        parts += (separator, chunk)
        size += len(chunk)
        separator = b","
        if size >= BLOCK_BYTES:
            block, parts, size = b"".join(parts), [], 0
            del chunk  # a response can wait here for its client, and should hold the block alone
            yield from _split_block(block)
    parts.append(tail)
    yield from _split_block(b"".join(parts))


def _split_block(block: bytes) -> Iterator[bytes]:
    if len(block) <= MAX_BLOCK_BYTES:
        yield block
        return
    for start in range(0, len(block), BLOCK_BYTES):
        yield block[start : start + BLOCK_BYTES]


def _closing(warnings: tuple[ParameterWarning, ...]) -> bytes:
    if not warnings:
        return b"}"
    entries = [status_entry("success", "warning", warning.description, warning.code_minor) for warning in warnings]
    return b',"statusInfoSet":' + orjson.dumps(entries) + b"}"
