"""Running servers that are compared, each with its requests for the same data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from bench.comparison.data import PAGE_SIZE, Sample, count_records, write_datasette, write_json_server
from bench.comparison.installation import ServerName
from bench.reads import body_file_name
from bench.servers import BenchmarkError, Server, baseline_server, external_server, free_port

__all__ = ["RECORD_COUNTS", "ComparedServer", "check_responses", "compared_server", "own_requests"]

RECORD_COUNTS: Final = {"get": 1, "get_same": 1, "page": PAGE_SIZE, "page0": PAGE_SIZE, "students": PAGE_SIZE}
"""Number of records in each response, by kind of request. Every server has all kinds."""

SQLALCHEMY_APP: Final = Path(__file__).with_name("sqlalchemy_app.py")
TOKEN: Final = "comparison"

Requests: TypeAlias = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class ComparedServer:
    """Running server, its paths for each kind of request, and the path of its whole collection."""

    name: str
    server: Server
    requests: Requests
    collection: str


def own_requests(sample: Sample) -> tuple[Requests, str]:
    """Return the requests of the service."""
    student = "&filter=" + quote("role='student'", safe="")
    return _offset_requests(sample, "/users?limit={limit}&offset={offset}", student), f"/users?limit={sample.total}"


def check_responses(compared: ComparedServer) -> None:
    """Request each path once. Raises BenchmarkError unless each response is 200 with the right number of records."""
    with closing(compared.server.connect()) as connection:
        for kind, expected in RECORD_COUNTS.items():
            for path in compared.requests[kind]:
                _, body = compared.server.get(path, connection)
                if (count := count_records(body)) != expected:
                    raise BenchmarkError(f"{compared.name}: {count} records instead of {expected} from {path}")


def save_bodies(own: ComparedServer, folder: Path) -> int:
    """Write each response of the service to a file, for servers of static files. Return the size of the collection."""
    folder.mkdir()
    with closing(own.server.connect()) as connection:
        for kind, paths in own.requests.items():
            for number, path in enumerate(paths):
                (folder / body_file_name(kind, number)).write_bytes(own.server.get(path, connection)[1])
        body = own.server.get(own.collection, connection)[1]
    (folder / "collection").write_bytes(body)
    return len(body)


@contextmanager
def compared_server(
    name: ServerName,
    program: Path | None,
    users: Sequence[dict[str, Any]],
    sample: Sample,
    own: ComparedServer,
    folder: Path,
) -> Iterator[ComparedServer]:
    """Fill a server with the users and run it. `program` is installed, `own` is the service with the same users."""
    folder.mkdir()
    with _SERVERS[name](program, users, sample, own, folder) as compared:
        yield compared


def _static_requests(sample: Sample) -> Requests:
    counts = {kind: len(paths) for kind, paths in own_requests(sample)[0].items()}
    return {kind: [f"/{body_file_name(kind, number)}" for number in range(count)] for kind, count in counts.items()}


def _offset_requests(sample: Sample, page: str, student: str, user: str = "/users/{id}") -> Requests:
    """Return requests of a service that pages by limit and offset."""
    return {
        "get": [user.format(id=key) for key in sample.ids],
        "get_same": [user.format(id=sample.ids[0])],
        "page": [page.format(limit=PAGE_SIZE, offset=offset) for offset in sample.offsets],
        "page0": [page.format(limit=PAGE_SIZE, offset=0)],
        "students": [page.format(limit=PAGE_SIZE, offset=offset) + student for offset in sample.student_offsets],
    }


@contextmanager
def _baseline(
    program: Path | None, users: Sequence[dict[str, Any]], sample: Sample, own: ComparedServer, folder: Path
) -> Iterator[ComparedServer]:
    size = save_bodies(own, folder / "bodies")
    with baseline_server(folder / "bodies") as server:
        yield ComparedServer("baseline", server, _static_requests(sample), f"/stream/{size}")


@contextmanager
def _nginx(
    program: Path | None, users: Sequence[dict[str, Any]], sample: Sample, own: ComparedServer, folder: Path
) -> Iterator[ComparedServer]:
    save_bodies(own, folder / "bodies")
    port, config = free_port(), folder / "nginx.conf"
    config.write_text(_nginx_config(folder, port), encoding="utf-8")
    command = [str(program), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]
    with external_server(command, port, folder / "log") as server:
        yield ComparedServer("nginx", server, _static_requests(sample), "/collection")


def _nginx_config(folder: Path, port: int) -> str:
    """Return a configuration with one worker, which keeps connections and file descriptors open."""
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "\n".join(
        f"    {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
{temporary}
    access_log off;
    default_type application/json;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    open_file_cache max=10000;
    server {{ listen 127.0.0.1:{port}; root {folder}/bodies; }}
}}
"""


@contextmanager
def _sqlalchemy(
    program: Path | None, users: Sequence[dict[str, Any]], sample: Sample, own: ComparedServer, folder: Path
) -> Iterator[ComparedServer]:
    records, file, port = folder / "users.json", folder / "users.db", free_port()
    records.write_text(json.dumps(users), encoding="utf-8")
    command = [str(program), str(SQLALCHEMY_APP)]
    _run([*command, "fill", str(records), str(file)])
    requests = _offset_requests(sample, "/users?limit={limit}&offset={offset}", "&role=student")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    command += ["serve", str(file), str(port), TOKEN]
    with external_server(command, port, folder / "log", headers=headers) as server:
        yield ComparedServer("sqlalchemy", server, requests, f"/users?limit={sample.total}")


@contextmanager
def _datasette(
    program: Path | None, users: Sequence[dict[str, Any]], sample: Sample, own: ComparedServer, folder: Path
) -> Iterator[ComparedServer]:
    """Run Datasette in its best case: an immutable file, known counts, no facets, pages by key."""
    file, counts, port = folder / "data.db", folder / "counts.json", free_port()
    write_datasette(users, file)
    command = [str(program), "-m", "datasette"]
    _run([*command, "inspect", str(file), "--inspect-file", str(counts)])
    options = {"max_returned_rows": sample.total, "sql_time_limit_ms": 60_000, "suggest_facets": 0, "allow_facet": 0}
    words = [word for name, value in options.items() for word in ("--setting", name, str(value))]
    command += ["serve", "-i", str(file), "--inspect-file", str(counts), "--port", str(port), *words]
    page = f"/users.json?_shape=array&_size={PAGE_SIZE}&_nocount=1&_nofacet=1&_nosuggest=1"
    requests = {
        "get": [f"/users/{key}.json?_shape=array" for key in sample.ids],
        "get_same": [f"/users/{sample.ids[0]}.json?_shape=array"],
        "page": [f"{page}&_next={key}" for key in sample.after],
        "page0": [page],
        "students": [f"{page}&role=student&_next={key}" for key in sample.students_after],
    }
    with external_server(command, port, folder / "log", "/data") as server:
        yield ComparedServer("datasette", server, requests, f".json?sql={quote('SELECT * FROM users')}&_shape=array")


@contextmanager
def _json_server(
    program: Path | None, users: Sequence[dict[str, Any]], sample: Sample, own: ComparedServer, folder: Path
) -> Iterator[ComparedServer]:
    file, port = folder / "users.json", free_port()
    write_json_server(users, file)
    options = ["--host", "127.0.0.1", "--port", str(port), "--read-only", "--quiet"]
    requests = _offset_requests(sample, "/users?_limit={limit}&_start={offset}", "&role=student")
    command = [shutil.which("node") or "node", str(program), *options, str(file)]
    with external_server(command, port, folder / "log") as server:
        yield ComparedServer("json-server", server, requests, "/users")


_SERVERS: Final[Mapping[ServerName, Callable[..., AbstractContextManager[ComparedServer]]]] = {
    "baseline": _baseline,
    "nginx": _nginx,
    "sqlalchemy": _sqlalchemy,
    "datasette": _datasette,
    "json-server": _json_server,
}


def _run(command: Sequence[str]) -> None:
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise BenchmarkError(f"{' '.join(command[:4])} exited with {completed.returncode}: {completed.stderr[-2000:]}")
