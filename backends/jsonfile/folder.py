"""One tenant's folder of JSON files: how it is read, replaced in one step, and checked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import orjson

from backends.base import Record, StorageUnavailableError
from backends.memory.evaluator import EMPTY_STATE, State, Table

__all__ = ["CURRENT_FILE", "Folder", "LoadedState"]

CURRENT_FILE = "current.json"
_NEXT = "current.json.next"
_DATA = re.compile(r".+\.[0-9]+\.json")

# The head of a line is dumped compactly, so the first raw tab ends it: a tab in a JSON string is always written \t.
_SEAM = b',\t"body":'

Version: TypeAlias = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class LoadedState:
    """What was read from a folder: the state, the files it came from, and the stamp of the `current.json` that said so;
    no stamp when there was none."""

    stamp: Version = None
    files: Mapping[str, str] = field(default_factory=dict)
    state: State = EMPTY_STATE


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of one tenant. Its methods raise OSError as it comes, and StorageUnavailableError for a file that is not ours."""

    path: Path

    def version(self) -> Version:
        """What tells one `current.json` from the next: inode, time and size."""
        try:
            return _stamp((self.path / CURRENT_FILE).stat())
        except FileNotFoundError:
            return None

    def load(self, seen: LoadedState) -> LoadedState:
        """The state as it is now; tables whose file is still the one in `seen` are not read again."""
        while (stamp := self.version()) != seen.stamp:
            if stamp is None:
                return LoadedState()
            try:
                return self._read(seen)
            except FileNotFoundError as error:
                # A writer was faster: it has named new files and removed those that we were about to read.
                if self.version() == stamp:
                    raise StorageUnavailableError(
                        f"{error.filename}: {CURRENT_FILE} names this file, but it is missing"
                    ) from error
        return seen

    def save(self, before: LoadedState, state: State, touched: Iterable[str]) -> LoadedState:
        """Replace what the folder holds by `state`, of which only the `touched` tables differ from `before`."""
        if not self.path.is_dir():
            self.path.mkdir(mode=0o700)
            _sync(self.path.parent)
        try:
            files = self._stage(before, state, touched)
        except OSError:
            # The disk may be full: leave no half-written files on it.
            self._tidy(before.files.values())
            raise
        (self.path / _NEXT).replace(self.path / CURRENT_FILE)
        _sync(self.path)
        self._tidy(files.values())
        return LoadedState(self.version(), files, state)

    def _stage(self, before: LoadedState, state: State, touched: Iterable[str]) -> dict[str, str]:
        """Write all that is new beside what is live; the files that will be live, by collection."""
        files = dict(before.files)
        for name in sorted(touched):
            files[name] = f"{quote(name, safe='')}.{state.serial}.json"
            _write(self.path / files[name], _lines(state.table(name)))
        head = {"revision": state.revision, "serial": state.serial, "files": files}
        # Serials only rise, and so do these times: two files that follow each other never look the same to a reader.
        _write(self.path / _NEXT, [orjson.dumps(head, option=orjson.OPT_INDENT_2), b"\n"], state.serial * 1000)
        _sync(self.path)
        return files

    def problems(self) -> list[str]:
        """What is wrong with the folder, a sentence each."""
        try:
            _, head = self._head()
        except (OSError, StorageUnavailableError) as error:
            return [str(error)]
        return [sentence for name in head["files"].values() for sentence in _faults(self.path / name)]

    def _read(self, seen: LoadedState) -> LoadedState:
        stamp, head = self._head()
        files: dict[str, str] = head["files"]
        tables = {
            collection: seen.state.table(collection) if seen.files.get(collection) == name else _table(self.path / name)
            for collection, name in files.items()
        }
        return LoadedState(stamp, files, State(tables, head["revision"], head["serial"]))

    def _head(self) -> tuple[Version, dict[str, Any]]:
        """`current.json` and the stamp of just the file that was read."""
        path = self.path / CURRENT_FILE
        with path.open("rb") as file:
            stamp, text = _stamp(os.fstat(file.fileno())), file.read()
        try:
            head = orjson.loads(text)
            if _sound(head):
                return stamp, head
        except orjson.JSONDecodeError as error:
            raise StorageUnavailableError(f"{path}: not JSON: {error}") from error
        raise StorageUnavailableError(f"{path}: not a list of live files with their revision")

    def _tidy(self, live: Iterable[str]) -> None:
        """Remove what is no longer named, and strays of a writer that was killed; nothing that is not ours.

        What cannot be removed now stays for the next commit: this one stands or has failed already.
        """
        keep = set(live)
        with suppress(OSError):
            for path in self.path.iterdir():
                if _DATA.fullmatch(path.name) and path.name not in keep:
                    path.unlink(missing_ok=True)


def _stamp(found: os.stat_result) -> Version:
    return found.st_ino, found.st_mtime_ns, found.st_size


def _sound(head: object) -> bool:
    match head:
        case {"revision": int(), "serial": int(), "files": dict(files)}:
            # A name from a file must not lead out of the folder.
            return all(isinstance(name, str) and _DATA.fullmatch(name) and "/" not in name for name in files.values())
    return False


def _lines(table: Table) -> Iterator[bytes]:
    yield b"["
    between = b"\n"
    for key in table.sorted_keys():
        record = table.records[key]
        head = orjson.dumps({"key": key, "values": record.values})
        yield between + head[:-1] + _SEAM + record.body + b"}"
        between = b",\n"
    yield b"\n]\n"


def _write(path: Path, parts: Iterable[bytes], time_ns: int | None = None) -> None:
    with open(path, "wb", buffering=1 << 20, opener=_private) as file:
        file.writelines(parts)
        file.flush()
        if time_ns is not None:
            os.utime(path, ns=(time_ns, time_ns))
        os.fsync(file.fileno())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(folder: Path) -> None:
    """Make the names in a folder last; where folders cannot be opened (Windows) there is nothing to do."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _table(path: Path) -> Table:
    return Table({record.key: record for record in _records(path)})


def _records(path: Path) -> Iterator[Record]:
    lines = path.read_bytes().split(b"\n")
    if lines[0] != b"[" or lines[-2:] != [b"]", b""]:
        raise StorageUnavailableError(f"{path}: not a JSON array with a record a line, or cut off")
    for number, line in enumerate(lines[1:-2], 2):
        yield _record(path, number, line.removesuffix(b","))


def _record(path: Path, number: int, line: bytes) -> Record:
    head, seam, body = line.partition(_SEAM)
    try:
        # Without the seam nothing is parsed: the rest may be JSON, but it is not of this form.
        match orjson.loads(head + b"}") if seam and body.endswith(b"}") else None:
            case {"key": str(key), "values": dict(values)}:
                return Record(key, body[:-1], {p: tuple(v) if isinstance(v, list) else v for p, v in values.items()})
    except orjson.JSONDecodeError as error:
        raise StorageUnavailableError(f"{path}, line {number}: not JSON: {error}") from error
    raise StorageUnavailableError(f"{path}, line {number}: not a record with key, values and a tab before the body")


def _faults(path: Path) -> Iterator[str]:
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
    for number, (one, two) in enumerate(pairwise(records), 3):
        if two.key == one.key:
            yield f"{path}, line {number}: the key {two.key!r} stands there twice"
        elif two.key < one.key:
            yield f"{path}, line {number}: {two.key!r} is out of key order"
