"""Baseline programs that do the least work possible.

`serve FOLDER` runs Flask on waitress and sends files from memory: /NAME is a file, /stream/NUMBER that number of bytes.
`load PACKAGE FILE` stores the rows of a package in a SQLite file: no validation, no JSON, no keys.
`unnumbered ARGUMENTS` runs the command line of the service without sequence numbers for changes.
"""

from __future__ import annotations

import csv
import io
import logging
import socket
import sqlite3
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import waitress
from flask import Flask, Response

from chalk_flask.cli import main
from chalk_flask.roster.changes import clock, writer
from chalk_flask.roster.changes.writer import RecordsWithTimestamp, RosterWriter

__all__ = ["STREAMED_FILE", "WAITRESS_THREADS"]

STREAMED_FILE = "page0"
BLOCK_BYTES = 65536
WAITRESS_THREADS = 4
"""Default of waitress: more threads make a server of short responses slower."""


def serve(folder: Path) -> None:
    """Listen on a free port, print it, and serve until the process is killed."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        waitress.serve(
            _application(folder),
            sockets=[listener],
            threads=WAITRESS_THREADS,
            outbuf_high_watermark=262144,
            asyncore_use_poll=True,
            _quiet=True,
        )


def _application(folder: Path) -> Flask:
    bodies = {path.name: path.read_bytes() for path in folder.iterdir()}
    app = Flask("baseline", static_folder=None)

    @app.get("/<name>")
    def body(name: str) -> Response:
        return Response(bodies[name], mimetype="application/json")

    @app.get("/stream/<int:size>")
    def stream(size: int) -> Response:
        headers = {"Content-Length": str(size)}
        return Response(_repeated(bodies[STREAMED_FILE], size), mimetype="application/json", headers=headers)

    return app


def _repeated(body: bytes, size: int) -> Iterator[bytes]:
    block = (body * (BLOCK_BYTES // len(body) + 1))[:BLOCK_BYTES]
    for start in range(0, size, BLOCK_BYTES):
        yield block[: size - start]


def load(package: Path, file: Path) -> None:
    """Create the SQLite file and fill a table from each CSV file."""
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    with closing(sqlite3.connect(file, isolation_level=None)) as database, zipfile.ZipFile(package) as archive:
        database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536")
        database.execute("BEGIN")
        for name in archive.namelist():
            with io.TextIOWrapper(archive.open(name), encoding="utf-8-sig", newline="") as text:
                rows = csv.reader(text)
                columns = ", ".join(f'"{column}"' for column in next(rows))
                table = f'"{name.removesuffix(".csv")}"'
                database.execute(f"CREATE TABLE {table} ({columns})")
                marks = ", ".join("?" * (columns.count(",") + 1))
                database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        database.execute("COMMIT")


class UnnumberedWriter(RosterWriter):
    """Writer that assigns no sequence numbers and queues no events."""

    def put(self, collection: str, records: RecordsWithTimestamp, keys: Callable[[], Iterable[str]]) -> None:
        self.transaction.put(collection, records(self.timestamp))

    def finish(self, counts: Mapping[str, object] | None = None) -> None:
        self.transaction.put(clock.COLLECTION, [clock.timestamp_record(self.timestamp)])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", folder]:
            serve(Path(folder))
        case ["load", package, file]:
            load(Path(package), Path(file))
        case ["unnumbered", *words]:
            vars(writer)["RosterWriter"] = UnnumberedWriter
            main(words)
        case _:
            sys.exit(__doc__)
