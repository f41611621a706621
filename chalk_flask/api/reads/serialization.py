"""Serialization of stored documents into response bodies: redaction, absolute references, field selection, envelopes.

Documents are only parsed if the caller selects fields or a policy redacts fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from chalk_flask.api.errors import status_entry
from chalk_flask.api.reads.query_params import ParameterWarning
from chalk_flask.api.reads.redaction import ReferenceLookup, make_redactor
from chalk_flask.oneroster.resource_type import ResourceType, resolve_hrefs
from chalk_flask.permissions.policy import UNRESTRICTED, AccessPolicy

__all__ = ["DocumentSerializer", "collection_envelope", "single_envelope", "stream_envelope"]

BLOCK_BYTES = 256 * 1024
"""Size at which a block is yielded."""
MAX_BLOCK_BYTES = 768 * 1024
"""Maximum size of a block. Larger ones are split into blocks of `BLOCK_BYTES`."""


class DocumentSerializer:
    """Renderer of stored documents of one type for one caller.

    The documents have absolute references below `root_url`, only the selected `fields` (None: all), and nothing that
    `policy` hides. `lookup` is required for any policy but UNRESTRICTED.
    """

    def __init__(
        self,
        resource_type: ResourceType,
        root_url: str,
        fields: tuple[str, ...] | None = None,
        policy: AccessPolicy = UNRESTRICTED,
        lookup: ReferenceLookup | None = None,
    ) -> None:
        self._root_url = root_url
        self._fields = fields
        self._redactor = None
        if policy is not UNRESTRICTED:
            if lookup is None:
                raise ValueError("A restricted policy requires a reference lookup.")
            self._redactor = make_redactor(resource_type.name, policy, lookup)

    def render(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Render chunks of stored documents. A chunk holds one or more documents, joined by commas."""
        root_url, fields, redactor = self._root_url, self._fields, self._redactor
        for chunk in chunks:
            visible = chunk if redactor is None else redactor.strip_references(chunk)
            # References are stripped from stored bytes, before their addresses change.
            rendered = resolve_hrefs(visible, root_url)
            if fields is not None:
                rendered = _select_fields(rendered, fields)
            yield rendered if redactor is None else redactor.strip_fields(rendered)


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
            yield from _split_block(b"".join(parts))
            parts, size = [], 0
    parts.append(tail)
    yield from _split_block(b"".join(parts))


def _split_block(block: bytes) -> Iterator[bytes]:
    if len(block) <= MAX_BLOCK_BYTES:
        yield block
        return
    for start in range(0, len(block), BLOCK_BYTES):
        yield block[start : start + BLOCK_BYTES]


def _select_fields(chunk: bytes, fields: tuple[str, ...]) -> bytes:
    """Return the documents with their selected members only. Values are copied as bytes and not parsed."""
    decoder, encoder = _field_selector(fields)
    return encoder.encode(decoder.decode(b"[%b]" % chunk))[1:-1]


@lru_cache(maxsize=256)
def _field_selector(fields: tuple[str, ...]) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Encoder]:
    members = [(f"m{n}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for n in range(len(fields))]
    selected = msgspec.defstruct("Selected", members, rename={f"m{n}": name for n, name in enumerate(fields)})
    return msgspec.json.Decoder(list[selected]), msgspec.json.Encoder()  # type: ignore[valid-type]  # created at run time


def _closing(warnings: tuple[ParameterWarning, ...]) -> bytes:
    if not warnings:
        return b"}"
    entries = [status_entry("success", "warning", warning.description, warning.code_minor) for warning in warnings]
    return b',"statusInfoSet":' + orjson.dumps(entries) + b"}"
