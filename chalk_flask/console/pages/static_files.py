"""Static files of the console. They are read once, and their URLs contain a version, so that browsers keep them.

They contain no secret, so they are sent compressed. Pages are not: with a secret beside text of the client, the size of
a compressed page reveals the secret (BREACH).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from flask import request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from chalk_flask.web_pages.static_files import StaticFile, static_response

__all__ = ["serve_static", "static_url"]


def static_url(name: str) -> str:
    """Return the URL of a static file, with its version."""
    return url_for("console.serve_static", name=name, v=_static_files()[name].version)


def serve_static(name: str) -> ResponseReturnValue:
    """Return a static file. Browsers keep it for a year if the URL has its version."""
    file = _static_files().get(name)
    if file is None:
        raise NotFound
    return static_response(request, file)


@cache
def _static_files() -> dict[str, StaticFile]:
    """Return the files of the folder `static` by their path in it."""
    return dict(_read_folder(files("chalk_flask.console") / "static", ""))


def _read_folder(folder: Traversable, prefix: str) -> list[tuple[str, StaticFile]]:
    found: list[tuple[str, StaticFile]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _read_folder(entry, f"{prefix}{entry.name}/")
        else:
            found.append((prefix + entry.name, StaticFile.read(entry)))
    return found
