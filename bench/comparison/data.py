"""Data of the compared servers: the users that the service returns, in their formats, and random requests for them."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.servers import BenchmarkError, Server

__all__ = [
    "PAGE_SIZE",
    "Sample",
    "choose_sample",
    "count_records",
    "read_users",
    "write_datasette",
    "write_json_server",
]

PAGE_SIZE: Final = 100
MAX_IDS: Final = 2000
MAX_OFFSETS: Final = 400
SEED: Final = 12


@dataclass(frozen=True)
class Sample:
    """Random ids and offsets. A key paging client asks for what follows an id: `after` has that id for each offset."""

    total: int
    ids: Sequence[str]
    offsets: Sequence[int]
    after: Sequence[str]
    student_offsets: Sequence[int]
    students_after: Sequence[str]


def read_users(server: Server) -> list[dict[str, Any]]:
    """Return all users of a service, in its order."""
    total = int(server.get("/users?limit=1")[0].headers["X-Total-Count"])
    users: list[dict[str, Any]] = json.loads(server.get(f"/users?limit={total}")[1])["users"]
    return users


def choose_sample(users: Sequence[dict[str, Any]]) -> Sample:
    """Return ids and offsets, which are the same for the same users. Every page is full."""
    choice = random.Random(SEED)
    ids = [user["sourcedId"] for user in users]
    students = [user["sourcedId"] for user in users if user["role"] == "student"]
    offsets, student_offsets = (
        [choice.randrange(1, len(keys) - PAGE_SIZE + 1) for _ in range(min(MAX_OFFSETS, len(ids) // 10))]
        for keys in (ids, students)
    )
    return Sample(
        len(ids),
        choice.choices(ids, k=min(MAX_IDS, len(ids) // 2)),
        offsets,
        [sorted(ids)[offset - 1] for offset in offsets],
        student_offsets,
        [sorted(students)[offset - 1] for offset in student_offsets],
    )


def write_datasette(users: Sequence[dict[str, Any]], file: Path) -> None:
    """Write a SQLite file with a table of users. Nested values are JSON texts."""
    columns = list(dict.fromkeys(name for user in users for name in user if name != "sourcedId"))
    with closing(sqlite3.connect(file)) as database, database:
        names = ", ".join(f'"{column}" TEXT' for column in columns)
        database.execute(f'CREATE TABLE users ("sourcedId" TEXT PRIMARY KEY, {names})')
        rows = ([user["sourcedId"], *(_cell(user.get(column)) for column in columns)] for user in users)
        database.executemany(f"INSERT INTO users VALUES ({', '.join('?' * (len(columns) + 1))})", rows)
        database.execute("CREATE INDEX users_role ON users (role)")


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | dict) else value


def write_json_server(users: Sequence[dict[str, Any]], file: Path) -> None:
    """Write the JSON file of json-server, whose records need a member `id`."""
    records = [{"id": user["sourcedId"], **user} for user in users]
    file.write_text(json.dumps({"users": records}), encoding="utf-8")


def count_records(body: bytes) -> int:
    """Return the number of records in a response of any server."""
    match json.loads(body):
        case list() as records:
            return len(records)
        case {"users": list() as records}:
            return len(records)
        case {"user": {"sourcedId": str()}} | {"sourcedId": str()}:
            return 1
    raise BenchmarkError(f"a response contains no users: {body[:300]!r}")
