"""Folder of one tenant's JSON files: load, replace atomically, and check."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

import orjson

from backends.base import DamagedStoreError, Record, StorageUnavailableError
from backends.files.private_files import make_subfolder
from backends.jsonfile.file_copies import link_or_copy
from backends.jsonfile.files import sync_folder, write_file
from backends.memory.evaluator import NO_TABLES, Table, TenantTables

__all__ = ["CURRENT_FILE", "Folder", "LoadedState"]

CURRENT_FILE = "current.json"
_NEXT_FILE = "current.json.next"
_DATA_FILE = re.compile(r"(.+)\.([0-9]+)\.json")

# The head of a line is compact JSON, in which a tab is always written as \t. So the first raw tab ends the head.
_SEPARATOR = b',\t"body":'

_HEAD_MEMBERS = ("revision", "serial", "files")

FileVersion: TypeAlias = tuple[int, int, int] | None
"""Inode, modification time in nanoseconds and size of a file; None if there is no file."""


@dataclass(frozen=True, slots=True)
class LoadedState:
    """State of a tenant, the file names of its collections, and the version of the `current.json` that named them.

    `other` are the members of `current.json` that this program does not know. They stay in the file.
    """

    version: FileVersion = None
    files: Mapping[str, str] = field(default_factory=dict)
    state: TenantTables = NO_TABLES
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Folder:
    """Files of one tenant. Methods raise OSError unconverted, and StorageUnavailableError for an invalid file."""

    path: Path

    def version(self) -> FileVersion:
        """Return the version of `current.json`, which differs after every commit."""
        try:
            return _file_version((self.path / CURRENT_FILE).stat())
        except FileNotFoundError:
            return None

    def load(self, loaded: LoadedState) -> LoadedState:
        """Return the current state. Tables whose file has not changed are taken from `loaded`."""
        while (version := self.version()) != loaded.version:
            if version is None:
                return LoadedState()
            try:
                return self._read(loaded)
            except FileNotFoundError as error:
                # A missing file is normal if a writer has just replaced `current.json` and deleted the old files.
                if self.version() == version:
                    raise DamagedStoreError(
                        f"{error.filename}: {CURRENT_FILE} names this file, but it is missing: put it back, or restore"
                        " a backup"
                    ) from error
        return loaded

    def save(self, before: LoadedState, state: TenantTables, written: Iterable[str]) -> LoadedState:
        """Store `state` in one step and return it as loaded. Only the `written` tables differ from `before`."""
        if not self.path.is_dir():
            make_subfolder(self.path)
            sync_folder(self.path.parent)
        try:
            files = self._stage(before, state, written)
        except OSError:
            # The disk may be full, so the partly written files must not stay on it.
            self._delete_unused(before.files.values())
            raise
        (self.path / _NEXT_FILE).replace(self.path / CURRENT_FILE)
        sync_folder(self.path)
        self._delete_unused(files.values())
        return LoadedState(self.version(), files, state, before.other)

    def _stage(self, before: LoadedState, state: TenantTables, written: Iterable[str]) -> dict[str, str]:
        """Write the new files beside the live ones, and return the new file names by collection."""
        files = dict(before.files)
        for name in sorted(written):
            files[name] = f"{quote(name, safe='')}.{state.serial}.json"
            write_file(self.path / files[name], _lines(state.table(name)))
        head = {"revision": state.revision, "serial": state.serial, "files": files, **before.other}
        self._write_head(head)
        sync_folder(self.path)
        return files

    def copy_live_files(self, target: Path) -> None:
        """Link or copy `current.json` and the files that it names to a new folder. No writer may be active."""
        target.mkdir(mode=0o700)
        _, head = self._head()
        for name in (CURRENT_FILE, *head["files"].values()):
            link_or_copy(self.path / name, target / name)

    def problems(self) -> list[str]:
        """Return the damage found in the folder, one sentence each."""
        try:
            _, head = self._head()
        except (OSError, StorageUnavailableError) as error:
            return [str(error)]
        return [problem for name in head["files"].values() for problem in _file_problems(self.path / name)]

    def has_current_file(self) -> bool:
        """Return True if there is a `current.json`, valid or not."""
        return (self.path / CURRENT_FILE).exists()

    def has_data(self) -> bool:
        """Return True if there is a data file."""
        return any(_DATA_FILE.fullmatch(path.name) for path in self.path.iterdir())

    def restore_current_file(self) -> list[str]:
        """Write a missing or invalid `current.json` that names the newest complete files; return the names.

        A valid one stays, and the result is empty. Raises DamagedStoreError if a file is not complete.
        """
        try:
            self._head()
        except (FileNotFoundError, DamagedStoreError):
            files = _live_files(path.name for path in self.path.iterdir())
            for name in files.values():
                _load_table(self.path / name)
            now = time.time_ns() // 1000
            self._write_head({"revision": now, "serial": now, "files": files})
            (self.path / _NEXT_FILE).replace(self.path / CURRENT_FILE)
            sync_folder(self.path)
            return sorted(files.values())
        return []

    def _write_head(self, head: Mapping[str, Any]) -> None:
        # The serial number rises with each commit, so a modification time made from it never repeats.
        text = orjson.dumps(head, option=orjson.OPT_INDENT_2)
        write_file(self.path / _NEXT_FILE, [text, b"\n"], head["serial"] * 1000)

    def _read(self, loaded: LoadedState) -> LoadedState:
        version, head = self._head()
        files: dict[str, str] = head["files"]
        tables = {
            collection: (
                loaded.state.table(collection)
                if loaded.files.get(collection) == name
                else _load_table(self.path / name)
            )
            for collection, name in files.items()
        }
        other = {name: value for name, value in head.items() if name not in _HEAD_MEMBERS}
        return LoadedState(version, files, TenantTables(tables, head["revision"], head["serial"]), other)

    def _head(self) -> tuple[FileVersion, dict[str, Any]]:
        """Return the version and contents of `current.json`, both from one open file."""
        path = self.path / CURRENT_FILE
        with path.open("rb") as file:
            version, text = _file_version(os.fstat(file.fileno())), file.read()
        try:
            head = orjson.loads(text)
            if _is_valid_head(head):
                return version, head
        except orjson.JSONDecodeError as error:
            raise DamagedStoreError(f"{path}: not JSON: {error}; run `chalk-flask check --repair`") from error
        raise DamagedStoreError(
            f"{path}: not a valid list of live files with their revision; run `chalk-flask check --repair`"
        )

    def _delete_unused(self, live: Iterable[str]) -> None:
        """Delete data files that are not live, such as those of a killed writer. Other files stay.

        Errors are ignored: the commit has already succeeded or failed, and the next commit tries again.
        """
        keep = set(live)
        with suppress(OSError):
            for path in self.path.iterdir():
                if _DATA_FILE.fullmatch(path.name) and path.name not in keep:
                    path.unlink(missing_ok=True)


def _live_files(names: Iterable[str]) -> dict[str, str]:
    """Return the newest data file of each collection, by collection.

    The files of the newest commit may be incomplete if a writer was killed. A commit deletes the files that it
    replaces, so it is ignored if all of its collections have older files too.
    """
    serials: dict[str, list[int]] = {}
    for name in names:
        if match := _DATA_FILE.fullmatch(name):
            serials.setdefault(match[1], []).append(int(match[2]))
    newest = max((serial for found in serials.values() for serial in found), default=0)
    last_commit = [found for found in serials.values() if newest in found]
    if last_commit and all(len(found) > 1 for found in last_commit):
        for found in last_commit:
            found.remove(newest)
    return {unquote(quoted): f"{quoted}.{max(found)}.json" for quoted, found in serials.items()}


def _file_version(status: os.stat_result) -> FileVersion:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _is_valid_head(head: object) -> bool:
    match head:
        case {"revision": int(), "serial": int(), "files": dict(files)}:
            # A file name must not lead out of the folder.
            return all(
                isinstance(name, str) and _DATA_FILE.fullmatch(name) and "/" not in name for name in files.values()
            )
    return False


def _lines(table: Table) -> Iterator[bytes]:
    yield b"["
    separator = b"\n"
    for key in table.sorted_keys():
        record = table.records[key]
        head = orjson.dumps({"key": key, "values": record.values})
        yield separator + head[:-1] + _SEPARATOR + record.body + b"}"
        separator = b",\n"
    yield b"\n]\n"


def _load_table(path: Path) -> Table:
    return Table({record.key: record for record in _records(path)})


def _records(path: Path) -> Iterator[Record]:
    lines = path.read_bytes().split(b"\n")
    if lines[0] != b"[" or lines[-2:] != [b"]", b""]:
        raise DamagedStoreError(f"{path}: not a JSON array with one record per line, or truncated; restore a backup")
    for number, line in enumerate(lines[1:-2], 2):
        yield _record(path, number, line.removesuffix(b","))


def _record(path: Path, number: int, line: bytes) -> Record:
    head, separator, body = line.partition(_SEPARATOR)
    try:
        # A line without the separator may be valid JSON, but not a valid record, so it is not parsed.
        match orjson.loads(head + b"}") if separator and body.endswith(b"}") else None:
            case {"key": str(key), "values": dict(values)}:
                return Record(key, body[:-1], {p: tuple(v) if isinstance(v, list) else v for p, v in values.items()})
    except orjson.JSONDecodeError as error:
        raise DamagedStoreError(f"{path}, line {number}: not JSON: {error}; restore a backup") from error
    raise DamagedStoreError(
        f"{path}, line {number}: not a record with key, values, and a tab before the body; restore a backup"
    )


def _file_problems(path: Path) -> Iterator[str]:
    try:
        records = list(_records(path))
    except (OSError, StorageUnavailableError) as error:
        yield str(error)
        return
    for number, record in enumerate(records, 2):
        try:
            orjson.loads(record.body)
        except orjson.JSONDecodeError as error:
            yield f"{path}, line {number}: the body of {record.key!r} is not JSON: {error}"
    for number, (previous, record) in enumerate(pairwise(records), 3):
        if record.key == previous.key:
            yield f"{path}, line {number}: duplicate key {record.key!r}"
        elif record.key < previous.key:
            yield f"{path}, line {number}: key {record.key!r} is out of order"
