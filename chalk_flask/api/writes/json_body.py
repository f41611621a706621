"""JSON bodies of requests, read under limits: what comes out is plain, shallow and holds each name once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson
from flask import Request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from chalk_flask.api.errors import ApiError

__all__ = ["MAX_BODY_BYTES", "MAX_DEPTH", "parse_enveloped_object"]

MAX_BODY_BYTES = 1 << 20
"""The largest body that is read; the server refuses a larger one as soon as its length is known."""

MAX_DEPTH = 32
"""So many objects and lists may stand in each other. Only metadata is deeper than three."""


def parse_enveloped_object(request: Request, name: str) -> dict[str, Any]:
    """The object in the envelope of that name.

    Raises Problem: 413 for more than MAX_BODY_BYTES, 400 for what is not JSON (RFC 8259), says a name twice in one object,
    is nested deeper than DEEPEST, holds NUL, or has no such envelope.
    """
    document = _parsed(_raw(request))
    found = document.get(name) if isinstance(document, dict) else None
    if not isinstance(found, dict):
        raise ApiError(400, f'The body must be an object with an envelope: {{"{name}": {{...}}}}.')
    return found


def _raw(request: Request) -> bytes:
    kind = request.mimetype
    if kind and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise ApiError(400, "The body must be JSON, with Content-Type: application/json.")
    request.max_content_length = MAX_BODY_BYTES
    try:
        raw = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise ApiError(413, f"The body is larger than {MAX_BODY_BYTES} bytes.") from None
    except ClientDisconnected:
        raise ApiError(400, "The body is shorter than its Content-Length.") from None
    if not raw.strip():
        raise ApiError(400, "The body is empty.")
    return raw


def _parsed(raw: bytes) -> Any:
    try:
        document = orjson.loads(raw)
        # orjson is strict about everything but repeated names, of which it keeps the last.
        json.loads(raw, object_pairs_hook=_once, parse_int=len, parse_float=len)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not JSON in UTF-8: {error}.") from None
    except RecursionError:
        raise ApiError(400, _TOO_DEEP) from None
    _check(document)
    return document


_TOO_DEEP = f"The body is nested deeper than {MAX_DEPTH} objects and lists."


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ApiError(400, "An object in the body says a name twice.")
    return found


def _check(document: Any) -> None:
    """Level by level, because what is nested deeply would end a recursion."""
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        if any("\0" in value for value in level if isinstance(value, str)):
            raise ApiError(400, "A text in the body holds NUL.")
        level = [below for value in level for below in _within(value)]
        if not level:
            return
    raise ApiError(400, _TOO_DEEP)


def _within(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, list):
        yield from value
