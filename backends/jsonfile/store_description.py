"""The file `store.json`, with which a JSON store describes itself: schema version, store id and tenants."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from backends.errors import DamagedStoreError, NewerStoreError
from backends.jsonfile.files import sync_folder, write_file

__all__ = ["SCHEMA_VERSION", "STORE_FILE", "StoreFile"]

STORE_FILE = "store.json"
SCHEMA_VERSION = 1
"""Version of the files of a JSON store. A program rejects stores of later versions."""


@dataclass(frozen=True, slots=True)
class StoreFile:
    """Contents of `store.json`. `other` are members that this program does not know; they stay in the file.

    Each of `tenants` must have a folder with a `current.json`.
    """

    store_id: str = field(default_factory=lambda: secrets.token_hex(16))
    tenants: frozenset[str] = frozenset()
    other: dict[str, Any] = field(default_factory=dict)

    def with_tenants(self, tenants: Iterable[str]) -> StoreFile:
        """Return a copy that lists these tenants too."""
        return replace(self, tenants=self.tenants.union(tenants))

    @classmethod
    def read(cls, folder: Path) -> StoreFile | None:
        """Return the contents of the file in this folder; None if there is no file.

        Raises OSError, DamagedStoreError and NewerStoreError.
        """
        path = folder / STORE_FILE
        try:
            data = orjson.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except orjson.JSONDecodeError as error:
            raise DamagedStoreError(f"{path}: not JSON: {error}; run `chalk-flask check --repair`") from error
        match data:
            case {"schemaVersion": int(version)} if version > SCHEMA_VERSION:
                raise NewerStoreError(
                    f"{folder} has schema version {version}, but this program supports versions up to"
                    f" {SCHEMA_VERSION}: use the version of the program that wrote the store, or a later one"
                )
            case {"schemaVersion": int(), "id": str(store_id), "tenants": list(tenants), **other}:
                return cls(store_id, frozenset(map(str, tenants)), {str(name): value for name, value in other.items()})
        raise DamagedStoreError(f"{path}: schemaVersion, id or tenants missing; run `chalk-flask check --repair`")

    def write(self, folder: Path) -> None:
        """Replace the file in this folder atomically. Raises OSError."""
        data = {"schemaVersion": SCHEMA_VERSION, "id": self.store_id, "tenants": sorted(self.tenants), **self.other}
        part = folder / f"{STORE_FILE}.next"
        write_file(part, [orjson.dumps(data, option=orjson.OPT_INDENT_2), b"\n"])
        part.replace(folder / STORE_FILE)
        sync_folder(folder)
