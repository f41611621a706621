"""PostgreSQL servers for tests: each has its own cluster, port and socket folder below a folder of the test run.

The server refuses to run as root. Root therefore runs the programs of PostgreSQL as the user `postgres`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from psycopg.sql import SQL, Identifier

from tests.support.postgresql.end_of_run import server_pid, stop_server
from tests.support.server_process import free_port

__all__ = ["DATABASE", "PostgresqlServer", "create_server", "postgresql_programs"]

USER = "chalk"
DATABASE = "postgres"
INSTALL_COMMAND = "apt-get install postgresql-15 postgresql-contrib"
START_ATTEMPTS = 5
"""Number of attempts to start a server, because another process may take the free port before it does."""

OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "300",
    "max_locks_per_transaction": "1024",  # a transaction that drops a schema locks each of its partitions
    "shared_buffers": "64MB",
    "timezone": "UTC",
}
WITHOUT_SYNC = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


def postgresql_programs() -> Path:
    """Return the folder of the programs. Raises FileNotFoundError with the command that installs them."""
    folder = Path(os.environ.get("POSTGRESQL_BIN", "/usr/lib/postgresql/15/bin"))
    if not (folder / "initdb").is_file():
        raise FileNotFoundError(
            f"{folder} has no PostgreSQL server: run '{INSTALL_COMMAND}', or './run test', which does it"
        )
    return folder


def _run(folder: Path, program: str, *args: str) -> None:
    """Run a program of PostgreSQL in a folder. Raises CalledProcessError; its notes have the output."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    command = [*as_user, str(postgresql_programs() / program), *args]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    # The server inherits the output, so a pipe would stay open as long as it runs.
    with (folder / "output").open("w+") as output:
        try:
            subprocess.run(
                command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True
            )
        except subprocess.CalledProcessError as error:
            error.add_note((folder / "output").read_text())
            raise


def _create_folder(folder: Path) -> None:
    folder.mkdir(0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")


@dataclass
class PostgresqlServer:
    """Server with its cluster in a folder. It listens on 127.0.0.1 and on a socket in the same folder."""

    folder: Path
    port: int
    options: dict[str, str]

    @property
    def data(self) -> Path:
        """Data directory of the cluster."""
        return self.folder / "data"

    @property
    def pid(self) -> int | None:
        """Id of the server process. None if the server is stopped."""
        return server_pid(self.data)

    def url(self, **params: str) -> str:
        """Return the URL of the database with further parameters, such as `schema`."""
        query = f"?{urlencode(params, quote_via=quote)}" if params else ""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}{query}"

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """Return a new connection that commits each statement."""
        return psycopg.connect(self.url(), autocommit=True)

    def start(self) -> None:
        """Start the server on its port, and return when it accepts connections."""
        options = OPTIONS | self.options | {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        arguments = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        log = self.folder / "log"
        try:
            _run(
                self.folder, "pg_ctl", "-D", str(self.data), "-l", str(log), "-t", "120", "-o", arguments, "-w", "start"
            )
        except subprocess.CalledProcessError as error:
            error.add_note(log.read_text()[-5000:] if log.exists() else "no log")
            raise

    def start_on_free_port(self) -> None:
        """Start the server on a free port. If another process takes the port meanwhile, try another one."""
        for attempt in range(1, START_ATTEMPTS + 1):
            self.port = free_port()
            try:
                self.start()
                break
            except subprocess.CalledProcessError as error:
                if attempt == START_ATTEMPTS or not any("Address already in use" in note for note in error.__notes__):
                    raise

    def stop(self) -> None:
        """Stop the server after it has disconnected its clients and written everything."""
        _run(self.folder, "pg_ctl", "-D", str(self.data), "-t", "120", "-m", "fast", "-w", "stop")

    def kill(self) -> None:
        """Kill the server and its child processes at once, as the end of a machine does."""
        stop_server(self.data, kill=True)
        # A start refuses while the process of these files exists, so until its parent has read its exit code.
        for path in (self.data / "postmaster.pid", *self.folder.glob(".s.PGSQL.*.lock")):
            path.unlink(missing_ok=True)

    def promote(self) -> None:
        """Make a standby the primary, and return when it accepts writes."""
        _run(self.folder, "pg_ctl", "-D", str(self.data), "-t", "120", "-w", "promote")

    def create_standby(self, name: str, **options: str) -> PostgresqlServer:
        """Return a running standby in a folder beside this one. It uses the replication slot `name` of this server."""
        standby = PostgresqlServer(self.folder.with_name(name), 0, self.options | options)
        _create_folder(standby.folder)
        source = f"host=127.0.0.1 port={self.port} user={USER} application_name={name}"
        copy = ("-D", str(standby.data), "-d", source, "-R", "-C", "-S", name, "-c", "fast")
        _run(standby.folder, "pg_basebackup", *copy)
        standby.start_on_free_port()
        return standby

    def drop_schemas(self, names: Iterable[str]) -> None:
        """Delete schemas with everything in them."""
        with self.connect() as connection:
            for name in names:
                connection.execute(SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(Identifier(name)))


def create_server(folder: Path, *, sync: bool, **options: str) -> PostgresqlServer:
    """Return a running server with a new cluster in the new folder `folder`. The folder is outside of the clone.

    Without `sync`, commits are not written to the disk, so such a server proves nothing about crashes.
    """
    server = PostgresqlServer(folder, 0, ({} if sync else WITHOUT_SYNC) | options)
    _create_folder(folder)
    cluster = ("-D", str(server.data), "-A", "trust", "-U", USER, "--locale=C", "--encoding=UTF8", "--data-checksums")
    _run(folder, "initdb", *cluster, *([] if sync else ["--no-sync"]))
    server.start_on_free_port()
    return server
