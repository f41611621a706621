"""Static files of the console. They are read once, and their URLs contain a version, so that browsers keep them.

They contain no secret, so they are sent compressed. Pages are not: with a secret beside text of the client, the size of
a compressed page reveals the secret (BREACH).
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from flask import Response, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

__all__ = ["serve_static", "static_url"]

VERSION_LENGTH = 12
IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _StaticFile:
    content: bytes
    compressed: bytes
    media_type: str
    version: str


def static_url(name: str) -> str:
    """Return the URL of a static file, with its version."""
    return url_for("console.serve_static", name=name, v=_static_files()[name].version)


def serve_static(name: str) -> ResponseReturnValue:
    """Return a static file. Browsers keep it for a year if the URL has its version."""
    file = _static_files().get(name)
    if file is None:
        raise NotFound
    accepts_gzip = request.accept_encodings.quality("gzip") > 0
    response = Response(file.compressed if accepts_gzip else file.content, content_type=file.media_type)
    response.headers["Cache-Control"] = IMMUTABLE if request.args.get("v") == file.version else "no-cache"
    response.headers["Vary"] = "Accept-Encoding"
    if accepts_gzip:
        response.headers["Content-Encoding"] = "gzip"
    response.set_etag(f"{file.version}-gzip" if accepts_gzip else file.version)
    return response.make_conditional(request)


@cache
def _static_files() -> dict[str, _StaticFile]:
    """Return the files of the folder `static` by their path in it."""
    return dict(_read_folder(files("chalk_flask.console") / "static", ""))


def _read_folder(folder: Traversable, prefix: str) -> list[tuple[str, _StaticFile]]:
    found: list[tuple[str, _StaticFile]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _read_folder(entry, f"{prefix}{entry.name}/")
        else:
            found.append((prefix + entry.name, _read_file(entry)))
    return found


def _read_file(entry: Traversable) -> _StaticFile:
    content = entry.read_bytes()
    media_type = mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    version = hashlib.sha256(content).hexdigest()[:VERSION_LENGTH]
    return _StaticFile(content, gzip.compress(content, mtime=0), media_type, version)
