"""From the chunks of a page to the bytes of an answer: references made absolute, fields picked, an envelope around.

Nothing here parses a document unless fields are selected or redacted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from chalk_flask.api.errors import status_entry
from chalk_flask.api.reads.query_params import ParameterWarning
from chalk_flask.api.reads.redaction import Redactor
from chalk_flask.oneroster.resource_type import ResourceType, resolve_hrefs

__all__ = ["collection", "render_documents", "single", "stream_envelope"]

ENOUGH = 256 * 1024
"""Bytes after which a block is handed on."""
MOST = 768 * 1024
"""Bytes that a block holds at most; larger ones are cut."""


def render_documents(
    chunks: Iterable[bytes], root: str, fields: tuple[str, ...] | None, cut: Redactor | None = None
) -> Iterator[bytes]:
    """The chunks with the absolute root in every reference, and of each document the selected members alone.

    `cut` takes out of them what the bearer must not see.
    """
    for chunk in chunks:
        whole = resolve_hrefs(chunk if cut is None else cut.strip_references(chunk), root)
        picked = whole if fields is None else _select_fields(whole, fields)
        yield picked if cut is None else cut.strip_fields(picked)


def collection(
    resource: ResourceType, chunks: Iterable[bytes], notices: tuple[ParameterWarning, ...]
) -> Iterator[bytes]:
    """The envelope of a collection, in blocks."""
    return stream_envelope(b'{"%b":[' % resource.name.encode(), chunks, b"]" + _ending(notices))


def single(resource: ResourceType, chunks: Iterable[bytes], notices: tuple[ParameterWarning, ...]) -> Iterator[bytes]:
    """The envelope of one object, in blocks."""
    return stream_envelope(b'{"%b":' % resource.singular_name.encode(), chunks, _ending(notices))


def stream_envelope(head: bytes, chunks: Iterable[bytes], tail: bytes) -> Iterator[bytes]:
    """Head, chunks joined by commas, and tail, in pieces that are neither small nor large; one when they are few."""
    parts, size, separator = [head], 0, b""
    for chunk in chunks:
        parts += (separator, chunk)
        size += len(chunk)
        separator = b","
        if size >= ENOUGH:
            yield from _cut(b"".join(parts))
            parts, size = [], 0
    parts.append(tail)
    yield from _cut(b"".join(parts))


def _cut(block: bytes) -> Iterator[bytes]:
    if len(block) <= MOST:
        yield block
        return
    for start in range(0, len(block), ENOUGH):
        yield block[start : start + ENOUGH]


def _select_fields(chunk: bytes, fields: tuple[str, ...]) -> bytes:
    """The selected members of each document, cut out and copied as they stand; no other is turned into objects."""
    decoder, encoder = _selector(fields)
    return encoder.encode(decoder.decode(b"[%b]" % chunk))[1:-1]


@lru_cache(maxsize=256)
def _selector(fields: tuple[str, ...]) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Encoder]:
    members = [(f"m{n}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for n in range(len(fields))]
    selected = msgspec.defstruct("Selected", members, rename={f"m{n}": name for n, name in enumerate(fields)})
    return msgspec.json.Decoder(list[selected]), msgspec.json.Encoder()  # type: ignore[valid-type]  # made just now


def _ending(notices: tuple[ParameterWarning, ...]) -> bytes:
    if not notices:
        return b"}"
    entries = [status_entry("success", "warning", notice.description, notice.minor) for notice in notices]
    return b',"statusInfoSet":' + orjson.dumps(entries) + b"}"
