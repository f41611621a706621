"""Fixtures of PostgreSQL: one server for all processes of a test run, a schema for each test, and further servers.

`tests/conftest.py` imports them. Without the server programs, a test that uses them fails.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TypeAlias

import pytest
from filelock import FileLock

from tests.support.postgresql.end_of_run import stop_after, stop_server
from tests.support.postgresql.server import PostgresqlServer, create_server, postgresql_programs

__all__ = [
    "CreateServer",
    "create_postgresql_server",
    "postgresql_folder",
    "postgresql_schema",
    "postgresql_server",
    "postgresql_url",
]

CreateServer: TypeAlias = Callable[..., PostgresqlServer]
"""Function that returns a running server with a new cluster. Keywords are options of the server, as `wal_level`."""

_schemas = count(1)


def _create_folder() -> Path:
    """Create the folder of the servers of this test run. The servers stop when the run ends."""
    # The user postgres cannot enter every folder of root.
    folder = Path(tempfile.mkdtemp(prefix="chalk-postgresql-", dir="/tmp" if os.geteuid() == 0 else None))
    folder.chmod(0o711)
    stop_after(os.getppid() if _in_worker() else os.getpid(), folder)
    return folder


def _in_worker() -> bool:
    return "PYTEST_XDIST_WORKER" in os.environ


@pytest.fixture(scope="session")
def postgresql_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the servers of this test run, outside of the clone."""
    try:
        postgresql_programs()
    except FileNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if _in_worker() else base) / "postgresql-folder"
    with FileLock(shared.with_suffix(".lock")):
        if not shared.exists():
            shared.write_text(str(_create_folder()))
    return Path(shared.read_text())


@pytest.fixture(scope="session")
def postgresql_server(postgresql_folder: Path) -> PostgresqlServer:
    """The server that all processes of the test run share. It does not write commits to the disk."""
    shared = postgresql_folder / "shared.json"
    with FileLock(shared.with_suffix(".lock")):
        if not shared.exists():
            server = create_server(postgresql_folder / "shared", sync=False)
            shared.write_text(json.dumps([server.port, server.options]))
    return PostgresqlServer(postgresql_folder / "shared", *json.loads(shared.read_text()))


@pytest.fixture
def postgresql_schema(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """Name of a schema of this test alone. The test creates it; it is deleted afterwards."""
    name = f"test_{os.getpid()}_{next(_schemas)}"
    yield name
    postgresql_server.drop_schemas([name])


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer, postgresql_schema: str) -> str:
    """Storage URL of a new store on the shared server."""
    return postgresql_server.url(schema=postgresql_schema)


@pytest.fixture
def create_postgresql_server(postgresql_folder: Path) -> Iterator[CreateServer]:
    """Factory of servers of this test alone, which write commits to the disk. Tests stop and kill them."""
    with tempfile.TemporaryDirectory(prefix="servers-", dir=postgresql_folder) as name:
        folder = Path(name)
        folder.chmod(0o711)

        def create(name: str = "primary", **options: str) -> PostgresqlServer:
            return create_server(folder / name, sync=True, **options)

        try:
            yield create
        finally:
            for data in folder.glob("*/data"):
                stop_server(data)
