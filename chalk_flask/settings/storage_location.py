"""Location of a store: plain paths as storage URLs, and the absolute path for messages."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from backends import InvalidStorageURLError, backend_class
from backends.base import file_path
from chalk_flask.settings.setting_type import absolute_path, without_passwords

__all__ = ["slashes_hint", "storage_location", "storage_url"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_STORE_FILE = "store.json"


def storage_url(text: str) -> str:
    """Return the URL of the store at a plain path such as `district.db`; a URL is returned unchanged.

    A folder with a JSON store is one, every other path is a SQLite file.
    """
    if not text or _SCHEME.match(text):
        return text
    scheme = "json" if (Path(text) / _STORE_FILE).is_file() else "sqlite"
    return f"{scheme}:///{quote(text)}"


def storage_location(url: str) -> str:
    """Return the absolute path of a store in files, otherwise its URL without passwords."""
    path = _path_of(url)
    return without_passwords(url) if path is None else absolute_path(str(path))


def slashes_hint(url: str) -> str:
    """Return a hint if the path of a URL was probably meant to be absolute, otherwise an empty text."""
    path = _path_of(url)
    first = path.parts[0] if path is not None and not path.is_absolute() else ""
    if not first or not Path("/", first).is_dir() or Path(first).exists():
        return ""
    scheme = url.partition(":")[0]
    return f". {scheme}:/// begins a path relative to the working directory, {scheme}://// an absolute one"


def _path_of(url: str) -> Path | None:
    """Return the path of a store in files. None for another URL, or one that no backend can open."""
    try:
        return file_path(url) if backend_class(url).durable else None
    except InvalidStorageURLError:
        return None
