"""Costs of access: a cached bearer token, a restricted token, a token request, and a gradebook write."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

from bench.figures import Figure
from bench.reads import LoadSettings
from bench.servers import CHALK, BenchmarkError, Server, baseline_server, run_command
from chalk_flask import create_app
from chalk_flask.services import Services

__all__ = [
    "create_line_item",
    "measure_bearer",
    "measure_grade_writes",
    "measure_restricted_page",
    "measure_token_requests",
]

RESTRICTED_ORGS: Final = 3
TOKEN_CHECKS: Final = 20_000
SEQUENTIAL_REQUESTS: Final = 200
CONCURRENT_GRADES: Final = 500
CONCURRENT_CLIENTS: Final = 8


def measure_bearer(storage: str, server: Server) -> Iterator[Figure]:
    """Yield the CPU time to authenticate a token that was used before."""
    token = server.headers["Authorization"].partition(" ")[2]
    services: Services = create_app(storage=storage).extensions["chalk"]
    with closing(services.store):
        if services.authenticator.authenticate(token)[0] is None:
            raise BenchmarkError("the token of the benchmark is rejected")
        started = time.process_time()
        for _ in range(TOKEN_CHECKS):
            services.authenticator.authenticate(token)
        seconds = (time.process_time() - started) / TOKEN_CHECKS
    yield Figure("bearer", seconds * 1e6, f"µs of CPU to authenticate a cached token, {TOKEN_CHECKS:,} times")


def measure_restricted_page(storage: str, server: Server, folder: Path, load: LoadSettings) -> Iterator[Figure]:
    """Yield the rate of a page with a token restricted to a few orgs, over the same bytes from memory."""
    schools = [school["sourcedId"] for school in json.loads(server.get(f"/schools?limit={RESTRICTED_ORGS}")[1])["orgs"]]
    restrictions = [word for school in schools for word in ("--restrict-org", school)]
    token = run_command(*CHALK, "token", "create", "--label", "limited", *restrictions, "--json", "--storage", storage)
    limited = replace(server, headers={"Authorization": f"Bearer {token.json['token']}"})
    total = int(limited.get("/users?limit=1")[0].headers["X-Total-Count"])
    path = f"/users?limit=100&offset={total // 2}"
    body = limited.get(path)[1]
    (folder / "limited").mkdir()
    for name in ("limited", "page0"):
        (folder / "limited" / name).write_bytes(body)
    with baseline_server(folder / "limited") as baseline:
        rounds = load.alternate((limited, [path]), (baseline, ["/limited"]))
    own_rate, baseline_rate = (median(pair[side] for pair in rounds) for side in range(2))
    source = f"{total:,} users of {RESTRICTED_ORGS} schools"
    note = f"{own_rate:,.0f} responses/s over {baseline_rate:,.0f} from memory, from {source}"
    yield Figure("limited", median(own / base for own, base in rounds), note)


def measure_token_requests(storage: str, server: Server) -> Iterator[Figure]:
    """Yield the time of an OAuth 2 token request, one after the other on one connection."""
    client = run_command(*CHALK, "client", "create", "--label", "benchmark", "--json", "--storage", storage).json
    basic = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}

    def request_token(connection: http.client.HTTPConnection, _: int) -> int:
        connection.request("POST", "/oauth/token", b"grant_type=client_credentials", headers)
        return _read_status(connection)

    durations = _time_requests(server, request_token, SEQUENTIAL_REQUESTS, (200,))
    note = f"ms per token request, {SEQUENTIAL_REQUESTS} in sequence"
    yield Figure("token", median(durations) * 1e3, note)


def measure_grade_writes(server: Server) -> Iterator[Figure]:
    """Yield the time of one PUT of a result, and the number of results lost with concurrent clients."""
    put_result, results_path = create_line_item(server)
    durations = _time_requests(server, put_result, SEQUENTIAL_REQUESTS, (200, 201))
    yield Figure("put", median(durations) * 1e3, f"ms per PUT of a result, {SEQUENTIAL_REQUESTS} in sequence")
    started = time.perf_counter()
    share = -(-CONCURRENT_GRADES // CONCURRENT_CLIENTS)
    writers = [
        threading.Thread(
            target=_time_requests, args=(server, put_result, share, (200, 201), SEQUENTIAL_REQUESTS + share * number)
        )
        for number in range(CONCURRENT_CLIENTS)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    seconds = time.perf_counter() - started
    response, _ = server.get(results_path)
    lost = SEQUENTIAL_REQUESTS + share * CONCURRENT_CLIENTS - int(response.headers["X-Total-Count"])
    note = f"of {share * CONCURRENT_CLIENTS} results by {CONCURRENT_CLIENTS} concurrent clients, in {seconds:.1f} s"
    yield Figure("put.lost", lost, note)


def create_line_item(server: Server) -> tuple[Callable[[http.client.HTTPConnection, int], int], str]:
    """Create a line item. Return a function that writes one of its results by number, and the path of all results."""
    klass = json.loads(server.get("/classes?limit=1&offset=7")[1])["classes"][0]["sourcedId"]
    students = [user["sourcedId"] for user in json.loads(server.get(f"/classes/{klass}/students")[1])["users"]]
    item = str(uuid.uuid4())
    connection = server.connect()
    fields = {"title": "Benchmark", "assignDate": "2025-01-01T00:00:00.000Z", "dueDate": "2025-02-01T00:00:00.000Z"}
    line_item = {**fields, "class": {"sourcedId": klass}, "resultValueMin": 0, "resultValueMax": 100}
    _put(server, connection, f"/lineItems/{item}", {"lineItem": line_item})
    if (status := _read_status(connection)) != 201:
        raise BenchmarkError(f"the response to the line item is {status}")
    connection.close()

    def put_result(connection: http.client.HTTPConnection, number: int) -> int:
        result: dict[str, object] = {"lineItem": {"sourcedId": item}, "score": number % 101}
        result |= {"student": {"sourcedId": students[number % len(students)]}}
        result |= {"scoreStatus": "fully graded", "scoreDate": "2025-02-02"}
        _put(server, connection, f"/results/{item}-{number}", {"result": result})
        return _read_status(connection)

    return put_result, f"/results?limit=1&filter=lineItem.sourcedId%3D%27{item}%27"


def _put(server: Server, connection: http.client.HTTPConnection, path: str, body: object) -> None:
    headers = {**server.headers, "Content-Type": "application/json"}
    connection.request("PUT", server.path + path, json.dumps(body).encode(), headers)


def _read_status(connection: http.client.HTTPConnection) -> int:
    response = connection.getresponse()
    response.read()
    return response.status


def _time_requests(
    server: Server,
    send: Callable[[http.client.HTTPConnection, int], int],
    count: int,
    expected: tuple[int, ...],
    first: int = 0,
) -> list[float]:
    """Return the seconds of each request on one connection. Raises BenchmarkError for an unexpected status."""
    durations = []
    with closing(server.connect()) as connection:
        for number in range(first, first + count):
            started = time.perf_counter()
            if (status := send(connection, number)) not in expected:
                raise BenchmarkError(f"the response to a request is {status}")
            durations.append(time.perf_counter() - started)
    return durations
