"""HTTP responses of reads: ETag and 304, a body of known length or a stream, and gzip if the client accepts it."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeAlias

from flask import Request, Response
from werkzeug.datastructures import Accept, Headers
from werkzeug.http import parse_accept_header, parse_etags

from chalk_flask import __version__
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["HeaderList", "cache_headers", "make_etag", "not_modified", "ok_response"]

HeaderList: TypeAlias = list[tuple[str, str]]

MIN_COMPRESSED_BYTES = 1024
"""Minimum size of a body that is compressed. For smaller bodies, compression takes more time than it saves."""

_COMPRESSION_LEVEL = 1
_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS


class _UncheckedHeaders(Headers):
    """Headers whose values come from this program, so that Werkzeug does not look for line breaks in each of them.

    The server still does.
    """

    def __init__(self, headers: HeaderList) -> None:
        self._list = list(headers)

    def add(self, key: str, value: str, /, **params: str) -> None:
        """Add a header."""
        if params:
            super().add(key, value, **params)
        else:
            self._list.append((key, value))


class _RawResponse(Response):
    """Response with status 200 whose headers are complete, so that Werkzeug neither copies nor corrects them."""

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        """Return the headers unchanged."""
        return self.headers

    def get_app_iter(self, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Return the body as it is, unless something must be closed after it."""
        body = self.response
        if isinstance(body, list) and not self._on_close and environ["REQUEST_METHOD"] == "GET":
            return body
        return super().get_app_iter(environ)


def make_etag(principal: Principal, revision: int, base_url: str, request: Request, variant: str) -> str:
    """Return the weak ETag of the response to a request, without computing the response.

    It depends on the tenant and its revision, on the URL and its query, and on the scopes and restrictions of the
    caller. It also depends on the version of this program and on `variant`, a text for settings that change responses.
    """
    query = request.query_string.decode("latin-1")
    scopes = _scopes_text(principal.scopes)
    restrictions = principal.restrictions
    access = scopes if restrictions is NO_RESTRICTIONS else (scopes, _restrictions_text(restrictions))
    parts = (__version__, variant, principal.tenant, revision, access, base_url, request.path, query)
    return f'W/"{blake2b(repr(parts).encode(), digest_size=12).hexdigest()}"'


def cache_headers(etag: str) -> HeaderList:
    """Return the headers of every response to a read, including 304."""
    return [("ETag", etag), ("Cache-Control", "private, no-cache"), ("Vary", "Accept-Encoding, Authorization")]


def not_modified(request: Request, etag: str) -> Response | None:
    """Return a 304 response if the client already has the response with this ETag, else None."""
    condition = request.environ.get("HTTP_IF_NONE_MATCH")
    # `*` matches any existing response. Before the store is read, it is unknown whether there is one.
    if condition and condition != "*" and parse_etags(condition).contains_raw(etag):
        return Response(status=304, headers=cache_headers(etag))
    return None


def ok_response(request: Request, blocks: Iterator[bytes], headers: HeaderList, timeout_seconds: float) -> Response:
    """Return a 200 response: a body with its length if there is one block, else a stream.

    A stream that takes longer than `timeout_seconds` raises TimeoutError, which breaks the connection. The client can
    then tell a broken response from a complete one (docs/conformance, Q-20).
    """
    first, second = next(blocks), next(blocks, None)
    is_large = second is not None or len(first) >= MIN_COMPRESSED_BYTES
    compressed = is_large and _accepts_gzip(request.environ.get("HTTP_ACCEPT_ENCODING", ""))
    if compressed:
        headers.append(("Content-Encoding", "gzip"))
    if second is None:
        body = b"".join(_gzip_blocks([first])) if compressed else first
        headers.append(("Content-Length", str(len(body))))
        return _make_response([body], headers)
    stream = _stream_until(time.monotonic() + timeout_seconds, [first, second], blocks)
    return _make_response(_gzip_blocks(stream) if compressed else stream, headers)


def _make_response(body: Iterable[bytes], headers: HeaderList) -> Response:
    # Werkzeug looks for Content-Type, so it comes first.
    return _RawResponse(body, "200 OK", _UncheckedHeaders([("Content-Type", "application/json"), *headers]))


def _stream_until(deadline: float, read_blocks: list[bytes], others: Iterator[bytes]) -> Iterator[bytes]:
    while read_blocks:
        yield read_blocks.pop(0)  # so that no block stays in memory while the next ones are sent
    for block in others:
        if time.monotonic() > deadline:
            raise TimeoutError("The response took longer than the setting stream_seconds allows.")
        yield block


@lru_cache(maxsize=256)
def _scopes_text(scopes: frozenset[str]) -> str:
    return " ".join(sorted(scopes))


@lru_cache(maxsize=4096)
def _restrictions_text(restrictions: AccessRestrictions) -> str:
    return repr(restrictions.to_dict())


@lru_cache(maxsize=64)
def _accepts_gzip(header: str) -> bool:
    """Return True if an Accept-Encoding header accepts gzip by name or as `*`, with a quality above zero."""
    accept = parse_accept_header(header, Accept)
    qualities = [quality for name, quality in accept if name.lower() in ("gzip", "x-gzip")]
    return max(qualities) > 0 if qualities else accept.quality("*") > 0


def _gzip_blocks(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the blocks as one gzip stream."""
    compressor = zlib.compressobj(_COMPRESSION_LEVEL, wbits=_GZIP_WINDOW_BITS)
    for block in blocks:
        if compressed := compressor.compress(block):
            yield compressed
    yield compressor.flush()
