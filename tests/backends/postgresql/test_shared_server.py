"""PostgreSQL server of the tests: shared by the processes of a run, and stopped whenever a run ends."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.support.paths import ROOT
from tests.support.postgresql.end_of_run import server_pid
from tests.support.postgresql.fixtures import CreateServer
from tests.support.postgresql.server import PostgresqlServer
from tests.support.storage.owners import requires_root

WAIT_SECONDS = 120
"""Limit for a loaded machine. The events occur within two seconds otherwise."""

TESTS = """
import json, time
from pathlib import Path
import pytest
from tests.support.postgresql.fixtures import *

@pytest.mark.parametrize("number", range(4))
def test_server(postgresql_server, postgresql_schema, number, pytestconfig):
    file = Path(FOLDER) / str(number)
    file.with_suffix(".new").write_text(
        json.dumps([str(postgresql_server.folder), postgresql_server.pid, postgresql_schema]))
    file.with_suffix(".new").rename(file)
    while HANG:
        time.sleep(0.1)
"""


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.02)


@contextmanager
def pytest_run(folder: Path, *args: str, hang: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Run pytest in a process group of its own."""
    (folder / "test_shared.py").write_text(f"FOLDER, HANG = {str(folder)!r}, {hang}\n{TESTS}")
    # A shell lets processes in the background ignore this signal, so that their child processes ignore it too.
    program = (
        "import pytest, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(pytest.main())"
    )
    command = [sys.executable, "-c", program, "-q", "-p", "no:cacheprovider", "-c", "/dev/null", *args]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with subprocess.Popen(
        [*command, "--rootdir", str(folder), str(folder)],
        env=environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def seen(folder: Path) -> list[tuple[Path, int, str]]:
    """Return the folder and the process of the server, and the schema, of each test that has started."""
    values = [json.loads((folder / str(number)).read_text()) for number in range(4) if (folder / str(number)).exists()]
    return [(Path(name), pid, schema) for name, pid, schema in values]


def wait_for_end(server: Path) -> None:
    """Wait until the server has ended, and its files are deleted."""
    wait_until(lambda: server_pid(server / "data") is None and not server.parent.exists())


@pytest.mark.slow
def test_processes_of_a_run_share_one_server_which_ends_with_it(tmp_path: Path) -> None:
    with pytest_run(tmp_path, "-n", "2") as process:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert "4 passed" in output
    tests = seen(tmp_path)
    assert len({server for server, _, _ in tests}) == len({pid for _, pid, _ in tests}) == 1
    assert len({schema for _, _, schema in tests}) == len({schema.split("_")[1] for _, _, schema in tests}) * 2 == 4
    wait_for_end(tests[0][0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "number", "group"),
    [("0", signal.SIGKILL, False), ("1", signal.SIGKILL, True), ("1", signal.SIGINT, True)],
)
def test_server_ends_with_an_interrupted_run(
    tmp_path: Path, processes: str, number: signal.Signals, group: bool
) -> None:
    with pytest_run(tmp_path, "-n", processes, hang=True) as process:
        wait_until(lambda: seen(tmp_path))
        server, pid, _ = seen(tmp_path)[0]
        os.kill(pid, 0)
        os.kill(-process.pid if group else process.pid, number)
        process.communicate(timeout=WAIT_SECONDS)
    wait_for_end(server)


def test_run_without_the_server_fails_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRESQL_BIN", str(tmp_path))
    with pytest_run(tmp_path, "-x") as process:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 1
    assert f"{tmp_path} has no PostgreSQL server: run 'apt-get install postgresql-15 postgresql-contrib'" in output


def test_schema_of_a_test_is_deleted_after_it(postgresql_server: PostgresqlServer) -> None:
    with postgresql_server.connect() as connection:
        connection.execute("CREATE SCHEMA to_drop CREATE TABLE t (n int)")
        postgresql_server.drop_schemas(["to_drop", "was_never_created"])
        assert connection.execute("SELECT to_regclass('to_drop.t')").fetchone() == (None,)


def test_url_is_one_of_libpq_with_the_schema(postgresql_server: PostgresqlServer, postgresql_url: str) -> None:
    base, _, query = postgresql_url.partition("?")
    assert query.startswith("schema=test_")
    with psycopg.connect(base) as connection:
        assert connection.info.port == postgresql_server.port
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert connection.execute("SHOW data_checksums").fetchone() == ("on",)
        assert connection.execute("SHOW fsync").fetchone() == ("off",), "only for the shared server"


@pytest.mark.slow
def test_standby_follows_and_replaces_a_killed_primary(create_postgresql_server: CreateServer) -> None:
    primary = create_postgresql_server(synchronous_standby_names="standby", synchronous_commit="local")
    standby = primary.create_standby("standby")
    with primary.connect() as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        connection.execute("SET synchronous_commit = remote_apply")
        connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        with standby.connect() as reader:
            assert reader.execute("SELECT n FROM t").fetchone() == (1,)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                reader.execute("INSERT INTO t VALUES (2)")
            primary.kill()
            assert primary.pid is None
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
            standby.promote()
            reader.execute("SET synchronous_commit = local")
            reader.execute("INSERT INTO t VALUES (2)")
    primary.start()
    with primary.connect() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,), "the former primary has not followed"
    primary.stop()
    assert primary.pid is None


@pytest.mark.slow
@requires_root
def test_server_runs_as_an_ordinary_user_too(postgresql_folder: Path) -> None:
    folder = postgresql_folder / "ordinary"
    folder.mkdir()
    user = pwd.getpwnam("postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    program = f"""
import os
from pathlib import Path
from tests.support.postgresql.server import create_server
os.setgroups([])
os.setgid({user.pw_gid})
os.setuid({user.pw_uid})
os.chdir({str(folder)!r})
server = create_server(Path({str(folder)!r}) / "own", sync=False)
with server.connect() as connection:
    print(connection.execute("SELECT 1").fetchone())
server.stop()
"""
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "(1,)\n"), done.stderr
