"""Chalk Flask storage in a single JSON file: `onefile:///roster.json`, for one process and a small school."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from backends import Backend, Collection, Record, Snapshot, StorageBusyError, StorageUnavailableError, Transaction
from backends.base import file_path
from backends.memory.backend import TableSnapshot, TableTransaction
from backends.memory.evaluator import NO_TABLES, Table, TenantTables


class OneFileBackend(Backend):
    """Backend with all tenants in memory. Each commit writes the whole file again."""

    durable = True
    shared = False

    def __init__(self, path: Path, collections: Iterable[Collection]) -> None:
        self.collections = {collection.name: collection for collection in collections}
        self._path = path
        self._states = load(path)
        self._writing = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, url: str, collections: Iterable[Collection]) -> Self:
        return cls(file_path(url).absolute(), collections)

    @classmethod
    def exists(cls, url: str) -> bool:
        return file_path(url).is_file()

    def read(self, tenant: str, *, at_least: object = None, query_seconds: float | None = None) -> Snapshot:
        return TableSnapshot(self.collections, self._state(tenant), query_seconds)

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        self._state(tenant)
        if not self._writing.acquire(timeout=wait):
            raise StorageBusyError(f"another writer held {self._path} for more than {wait:g} seconds: try again")

        def commit(state: TenantTables, written: set[str]) -> None:
            states = self._states | {tenant: state}
            save(self._path, states)
            self._states = states

        return TableTransaction(self.collections, self._state(tenant), commit, self._writing.release)

    def tenants(self) -> list[str]:
        self._state("")
        return sorted(self._states)

    def version(self, tenant: str) -> object:
        return self._state(tenant).serial

    def check(self) -> list[str]:
        self._state("")
        try:
            load(self._path)
        except StorageUnavailableError as error:
            return [str(error)]
        return []

    def close(self) -> None:
        self._closed = True

    def _state(self, tenant: str) -> TenantTables:
        if self._closed:
            raise StorageUnavailableError(f"{self._path} is closed")
        return self._states.get(tenant, NO_TABLES)


def load(path: Path) -> dict[str, TenantTables]:
    """Return the states of all tenants; none if there is no file. Raises StorageUnavailableError."""
    try:
        return {tenant: from_json(data) for tenant, data in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StorageUnavailableError(f"{path} cannot be read as a store: {error!r}") from error


def save(path: Path, states: dict[str, TenantTables]) -> None:
    """Replace the file atomically. Raises StorageUnavailableError."""
    text = json.dumps({tenant: to_json(state) for tenant, state in states.items()}, indent=1)
    try:
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        raise StorageUnavailableError(f"{path} cannot be written: {error}") from error


def to_json(state: TenantTables) -> dict[str, Any]:
    """Return the state of a tenant as JSON. Bodies are strings, so that they are restored byte for byte."""
    collections = {
        name: [[record.key, record.body.decode(), dict(record.values)] for record in table.records.values()]
        for name, table in state.tables.items()
    }
    return {"revision": state.revision, "serial": state.serial, "collections": collections}


def from_json(data: dict[str, Any]) -> TenantTables:
    """Return the state of a tenant from its JSON."""
    tables = {name: Table() for name in data["collections"]}
    for name, records in data["collections"].items():
        for key, body, values in records:
            comparison_keys = {
                path: tuple(value) if isinstance(value, list) else value for path, value in values.items()
            }
            tables[name].put(Record(key, body.encode(), comparison_keys))
    return TenantTables(tables, data["revision"], data["serial"])
