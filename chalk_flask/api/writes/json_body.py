"""Parser of JSON request bodies with limited size and depth, and without repeated names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson
from flask import Request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from chalk_flask.api.errors import ApiError
from chalk_flask.oneroster.fields.base import printable

__all__ = ["parse_enveloped_object"]

MAX_BODY_BYTES = 1 << 20
"""Maximum size of a body. A larger body is rejected as soon as its length is known."""

MAX_DEPTH = 32
"""Maximum nesting of objects and lists. Only `metadata` is deeper than three levels."""

_MIN_ROUNDED_DIGITS = 19
"""Minimum number of characters of an integer that orjson may round."""

TOO_DEEP_MESSAGE = f"The body must not be nested deeper than {MAX_DEPTH} objects and lists."


def parse_enveloped_object(request: Request, name: str) -> dict[str, Any]:
    """Return the object in the envelope of that name (docs/conformance, W-12).

    Raises ApiError (413) for more than MAX_BODY_BYTES. Raises ApiError (400) for a body that is not JSON (RFC 8259),
    contains NUL or has no such envelope. Raises it too for repeated names, for integers that would be rounded, and for
    nesting deeper than MAX_DEPTH.
    """
    document = _parse(_read(request))
    enveloped = document.get(name) if isinstance(document, dict) else None
    if not isinstance(enveloped, dict):
        raise ApiError(400, f'The body must be an object with an envelope: {{"{name}": {{...}}}}.')
    return enveloped


def _read(request: Request) -> bytes:
    content_type = request.mimetype
    is_json = content_type == "application/json" or (
        content_type.startswith("application/") and content_type.endswith("+json")
    )
    if content_type and not is_json:
        raise ApiError(400, "The body must be JSON, with Content-Type: application/json.")
    request.max_content_length = MAX_BODY_BYTES
    try:
        raw = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise ApiError(413, f"The body must not be larger than {MAX_BODY_BYTES} bytes.") from None
    except ClientDisconnected:
        raise ApiError(400, "The body is shorter than its Content-Length. Send all of it.") from None
    if not raw.strip():
        raise ApiError(400, "The body is empty. Send a JSON object.")
    return raw


def _parse(raw: bytes) -> Any:
    try:
        document = orjson.loads(raw)
        # orjson accepts repeated names and keeps the last one, so the standard library checks them.
        json.loads(raw, object_pairs_hook=_reject_repeated_names, parse_int=_check_integer, parse_float=len)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not JSON in UTF-8: {error}.") from None
    except RecursionError:
        raise ApiError(400, TOO_DEEP_MESSAGE) from None
    _check_depth_and_text(document)
    return document


def _reject_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ApiError(400, "An object in the body contains the same name more than once. Send every name once.")
    return members


def _check_integer(text: str) -> int:
    """Raise ApiError (400) for an integer that orjson rounds. It has 64 bits, and stores larger ones as floats."""
    if len(text) >= _MIN_ROUNDED_DIGITS and int(float(text)) != int(text) and not -(2**63) <= int(text) < 2**64:
        raise ApiError(400, f"The integer {printable(text)} is too large to be stored unchanged. Send it as text.")
    return 0


def _check_depth_and_text(document: Any) -> None:
    """Raise ApiError (400) for NUL or too deep nesting. Works level by level, as deep nesting would end a recursion."""
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        if any("\0" in value for value in level if isinstance(value, str)):
            raise ApiError(400, "A text in the body contains NUL (U+0000). Remove it.")
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise ApiError(400, TOO_DEEP_MESSAGE)


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, list):
        yield from value
