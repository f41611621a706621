"""Files that are the same for every client: kept in memory, compressed once, with a version for browsers."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Response

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from flask import Request

__all__ = ["StaticFile", "static_response"]

VERSION_LENGTH = 12
IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """Content of a file, plain and compressed with gzip. It contains no secret, so it is sent compressed."""

    content: bytes
    compressed: bytes
    media_type: str
    version: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> StaticFile:
        """Return the file with this content."""
        version = hashlib.sha256(content).hexdigest()[:VERSION_LENGTH]
        return cls(content, gzip.compress(content, mtime=0), media_type, version)

    @classmethod
    def read(cls, entry: Traversable) -> StaticFile:
        """Return a file of a package. Its name decides the media type."""
        media_type = mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
        if media_type.startswith("text/"):
            media_type += "; charset=utf-8"
        return cls.of(entry.read_bytes(), media_type)


def static_response(request: Request, file: StaticFile) -> Response:
    """Return the response with a file. Browsers keep it for a year if the parameter `v` of the URL is its version."""
    accepts_gzip = request.accept_encodings.quality("gzip") > 0
    response = Response(file.compressed if accepts_gzip else file.content, content_type=file.media_type)
    response.headers["Cache-Control"] = IMMUTABLE if request.args.get("v") == file.version else "no-cache"
    response.headers["Vary"] = "Accept-Encoding"
    if accepts_gzip:
        response.headers["Content-Encoding"] = "gzip"
    response.set_etag(f"{file.version}-gzip" if accepts_gzip else file.version)
    conditional = response.make_conditional(request)
    assert isinstance(conditional, Response)
    return conditional
