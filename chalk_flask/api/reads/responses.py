"""Answers as HTTP has them: validators and 304, one body or a stream, gzip when asked for (design section 5)."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from flask import Request, Response
from werkzeug.datastructures import Accept, Headers
from werkzeug.http import parse_accept_header, parse_etags

from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["HeaderList", "cache_headers", "make_etag", "not_modified", "ok_response"]

HeaderList = list[tuple[str, str]]


def _version() -> str:
    try:
        return version("chalk-flask")
    except PackageNotFoundError:
        return "uninstalled"  # run from a checkout


VERSION = _version()


class RawResponse(Response):
    """A 200 whose headers are complete: werkzeug would copy them and look for what there is to mend."""

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        """The headers as they stand."""
        return self.headers


def make_etag(grant: Principal, revision: int, site: str, request: Request, variant: str) -> str:
    """The weak ETag of what this request is answered with, computed without looking for it.

    It hangs on all that an answer depends on: tenant and revision, the address (hrefs hold it), the query, the scopes
    and limits, this program's version, and the `variant` that settings make.
    """
    query = request.query_string.decode("latin-1")
    allowed = (
        _scopes(grant.scopes)
        if grant.restrictions is NO_RESTRICTIONS
        else (_scopes(grant.scopes), _limits(grant.restrictions))
    )
    seen = (VERSION, variant, grant.tenant, revision, allowed, site, request.path, query)
    return f'W/"{blake2b(repr(seen).encode(), digest_size=12).hexdigest()}"'


def cache_headers(tag: str) -> HeaderList:
    """What every answer of a read carries, 304 too."""
    return [("ETag", tag), ("Cache-Control", "private, no-cache"), ("Vary", "Accept-Encoding, Authorization")]


def not_modified(request: Request, tag: str) -> Response | None:
    """304 when the client holds this very answer."""
    held = request.environ.get("HTTP_IF_NONE_MATCH")
    # `*` asks whether there is any answer, which nobody knows before looking.
    if held and held != "*" and parse_etags(held).contains_raw(tag):
        return Response(status=304, headers=cache_headers(tag))
    return None


def ok_response(request: Request, blocks: Iterator[bytes], headers: HeaderList, seconds: float) -> Response:
    """200 with the blocks: one body with its length when there is one block, else a stream.

    A stream that takes longer than `seconds` ends with TimeoutError, so that the connection breaks: a client can tell
    that from an end.
    """
    headers.append(("Content-Type", "application/json"))
    first, second = next(blocks), next(blocks, None)
    large = second is not None or len(first) >= SMALLEST
    zipped = large and accepted(request.environ.get("HTTP_ACCEPT_ENCODING", ""))
    if zipped:
        headers.append(("Content-Encoding", "gzip"))
    if second is None:
        return RawResponse(b"".join(gzipped([first])) if zipped else first, headers=headers)
    stream = _until(time.monotonic() + seconds, first, second, blocks)
    return RawResponse(gzipped(stream) if zipped else stream, headers=headers)


def _until(deadline: float, first: bytes, second: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield second
    for block in others:
        if time.monotonic() > deadline:
            raise TimeoutError("the answer took longer than stream_seconds allows")
        yield block


@lru_cache(maxsize=256)
def _scopes(scopes: frozenset[str]) -> str:
    return " ".join(sorted(scopes))


@lru_cache(maxsize=4096)
def _limits(limits: AccessRestrictions) -> str:
    return repr(limits.to_dict())


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
