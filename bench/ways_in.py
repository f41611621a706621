"""What getting in costs: a known bearer, a token limited to a few orgs, a request for a token, and a grade written."""

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

from bench.figures import Figure
from bench.measuring import Effort
from bench.processes import CHALK, Failed, Server, ran, yardstick_server
from chalk_flask import create_app
from chalk_flask.services import Services

__all__ = ["known_bearer", "limited_page", "token_requests", "written_grades"]

ORGS = 3
CHECKS = 20_000
REQUESTS = 200
GRADES = 500
CLIENTS = 8


def known_bearer(storage: str, server: Server, folder: Path) -> Iterator[Figure]:
    """CPU time in process of letting in a token that was seen before."""
    token = server.headers["Authorization"].partition(" ")[2]
    chalk: Services = create_app(storage=storage, data=str(folder / "data")).extensions["chalk"]
    with closing(chalk.store):
        if chalk.authenticator.authenticate(token)[0] is None:
            raise Failed("the token of the benchmark is not let in")
        began = time.process_time()
        for _ in range(CHECKS):
            chalk.authenticator.authenticate(token)
        took = (time.process_time() - began) / CHECKS
    yield Figure("bearer", took * 1e6, f"µs of CPU to let a known token in, over {CHECKS:,} times")


def limited_page(storage: str, server: Server, folder: Path, effort: Effort) -> Iterator[Figure]:
    """A page in the middle of what a token sees that is limited to a few orgs, over the same bytes ready-made."""
    schools = [school["sourcedId"] for school in json.loads(server.get(f"/schools?limit={ORGS}")[1])["orgs"]]
    limits = [word for school in schools for word in ("--limit-org", school)]
    made = ran(*CHALK, "token", "create", "--label", "limited", *limits, "--json", "--storage", storage)
    limited = replace(server, headers={"Authorization": f"Bearer {made.json['token']}"})
    total = int(limited.get("/users?limit=1")[0].headers["X-Total-Count"])
    path = f"/users?limit=100&offset={total // 2}"
    body = limited.get(path)[1]
    (folder / "limited").mkdir()
    for name in ("limited", "page0"):
        (folder / "limited" / name).write_bytes(body)
    with yardstick_server(folder / "limited") as yardstick:
        turns = effort.in_turn((limited, path), (yardstick, "/limited"))
    ours, theirs = (median(turn[side] for turn in turns) for side in range(2))
    note = f"{ours:,.0f} answers/s over {theirs:,.0f} ready-made, from {total:,} users of {ORGS} schools"
    yield Figure("limited", median(a / b for a, b in turns), note)


def token_requests(storage: str, server: Server) -> Iterator[Figure]:
    """The time of one request for an OAuth 2 token, one after the other on one connection."""
    made = ran(*CHALK, "client", "create", "--label", "benchmark", "--json", "--storage", storage).json
    basic = base64.b64encode(f"{made['client_id']}:{made['client_secret']}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}

    def ask(connection: http.client.HTTPConnection, _: int) -> int:
        connection.request("POST", "/oauth/token", b"grant_type=client_credentials", headers)
        return _status(connection)

    took = _timed(server, ask, REQUESTS, (200,))
    yield Figure("token", median(took) * 1e3, f"ms a request for a token, of {REQUESTS} one after the other")


def written_grades(server: Server) -> Iterator[Figure]:
    """The time of one PUT of a result, alone; and how many of those are lost that several clients write at once."""
    put, found = _grader(server)
    alone = _timed(server, put, REQUESTS, (200, 201))
    yield Figure("put", median(alone) * 1e3, f"ms a PUT of a result, of {REQUESTS} one after the other")
    began = time.perf_counter()
    share = -(-GRADES // CLIENTS)
    writers = [
        threading.Thread(target=_timed, args=(server, put, share, (200, 201), REQUESTS + share * number))
        for number in range(CLIENTS)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    took = time.perf_counter() - began
    answer, _ = server.get(found)
    lost = REQUESTS + share * CLIENTS - int(answer.headers["X-Total-Count"])
    yield Figure("put.lost", lost, f"of {share * CLIENTS} results by {CLIENTS} clients at once, in {took:.1f} s")


def _grader(server: Server) -> tuple[Callable[[http.client.HTTPConnection, int], int], str]:
    """Writes a line item for a class; then what writes the result of that number, and the path that finds them all."""
    klass = json.loads(server.get("/classes?limit=1&offset=7")[1])["classes"][0]["sourcedId"]
    students = [user["sourcedId"] for user in json.loads(server.get(f"/classes/{klass}/students")[1])["users"]]
    item = str(uuid.uuid4())
    connection = server.connect()
    fields = {"title": "Benchmark", "assignDate": "2025-01-01T00:00:00.000Z", "dueDate": "2025-02-01T00:00:00.000Z"}
    line_item = {**fields, "class": {"sourcedId": klass}, "resultValueMin": 0, "resultValueMax": 100}
    _put(server, connection, f"/lineItems/{item}", {"lineItem": line_item})
    if (status := _status(connection)) != 201:
        raise Failed(f"the line item was answered with {status}")
    connection.close()

    def put(connection: http.client.HTTPConnection, number: int) -> int:
        graded: dict[str, object] = {"lineItem": {"sourcedId": item}, "score": number % 101}
        graded |= {"student": {"sourcedId": students[number % len(students)]}}
        graded |= {"scoreStatus": "fully graded", "scoreDate": "2025-02-02"}
        _put(server, connection, f"/results/{item}-{number}", {"result": graded})
        return _status(connection)

    return put, f"/results?limit=1&filter=lineItem.sourcedId%3D%27{item}%27"


def _put(server: Server, connection: http.client.HTTPConnection, path: str, body: object) -> None:
    headers = {**server.headers, "Content-Type": "application/json"}
    connection.request("PUT", server.path + path, json.dumps(body).encode(), headers)


def _status(connection: http.client.HTTPConnection) -> int:
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _timed(
    server: Server,
    ask: Callable[[http.client.HTTPConnection, int], int],
    times: int,
    wanted: tuple[int, ...],
    first: int = 0,
) -> list[float]:
    """Seconds of each request on one connection. Raises Failed for an answer that is not wanted."""
    took = []
    with closing(server.connect()) as connection:
        for number in range(first, first + times):
            began = time.perf_counter()
            if (status := ask(connection, number)) not in wanted:
                raise Failed(f"a request was answered with {status}")
            took.append(time.perf_counter() - began)
    return took
