"""Clients of a service whose processes are killed: readers, writers, and apps that request tokens."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlencode

__all__ = ["IMS", "Api", "AppClient", "Client", "Reader", "Response", "Tally", "Writer", "run_steps"]

IMS: Final = "/ims/oneroster/v1p1"
CATEGORIES: Final = "/api/oneroster/v1p1/categories"
TIMEOUT_SECONDS: Final = 30.0
CATEGORY_COUNT: Final = 20
REJECTED: Final = (401, 429)
"""Statuses of a token that was revoked. After many of them, the processes together answer 429."""
MAX_REQUESTS: Final = 30
"""Number of requests after which a client opens a new connection, which may reach another process."""

Response = tuple[int, bytes]


@dataclass
class Tally:
    """Results of all requests. Thread-safe."""

    complete: int = 0
    cut: int = 0
    """Requests whose connection broke before the response was complete, as with any server that is killed."""
    refused: int = 0
    """Connections that were refused."""
    wrong: list[str] = field(default_factory=list)
    """Descriptions of complete responses that are not the right ones, and of requests without an answer."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, complete: int = 0, cut: int = 0, refused: int = 0, wrong: str = "") -> None:
        """Count the result of a request."""
        with self._lock:
            self.complete += complete
            self.cut += cut
            self.refused += refused
            self.wrong += [wrong] if wrong else []


class Api:
    """Connection to the service, which is opened again after a failure and after some requests. For one thread."""

    def __init__(self, port: int, tally: Tally) -> None:
        self._port, self._tally = port, tally
        self._connection: http.client.HTTPConnection | None = None
        self._left = 0

    def request(self, method: str, path: str, token: str = "", body: bytes = b"", kind: str = "") -> Response | None:
        """Return status and body of a complete response; None if the connection broke."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"Content-Type": kind} if kind else {}
        try:
            connection = self._connect()
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            received = response.read()
        except TimeoutError:
            self._tally.add(wrong=f"{method} {path}: no answer")
        except ConnectionRefusedError:
            self._tally.add(refused=1)
        except (OSError, http.client.HTTPException):
            self._tally.add(cut=1)
        else:
            self._tally.add(complete=1)
            return response.status, received
        self.close()
        return None

    def expect(self, found: Response | None, expected: Response, path: str) -> None:
        """Count a complete response that differs from the expected one."""
        if found is not None and found != expected:
            self._tally.add(wrong=f"{path}: status {found[0]}, {len(found[1])} bytes; expected {expected[0]}")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None or not self._left:
            self.close()
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_SECONDS)
            self._left = MAX_REQUESTS
        self._left -= 1
        return self._connection


class Client(Protocol):
    """Client with a connection, which sends some requests in each step."""

    api: Api

    def step(self) -> None:
        """Send the requests."""


class Reader:
    """Client that compares each response with the one that the service gave before any process was killed."""

    def __init__(self, api: Api, token: str, expected: Mapping[str, Response], rng: random.Random) -> None:
        self.api, self._token, self._expected, self._rng = api, token, expected, rng
        self._paths = list(expected)

    def step(self) -> None:
        """Send a request."""
        path = self._rng.choice(self._paths)
        self.api.expect(self.api.request("GET", path, self._token), self._expected[path], path)


class Writer:
    """Client that writes categories of its own. Each that was acknowledged must be stored."""

    def __init__(self, api: Api, token: str, name: str, tally: Tally) -> None:
        self.api, self._token, self._tally = api, token, tally
        self._keys = itertools.cycle([f"{name}-{number}" for number in range(CATEGORY_COUNT)])
        self._titles: dict[str, set[str]] = defaultdict(set)
        """Titles that a category may have: the last one that was acknowledged, and those that were sent since."""
        self._acknowledged: set[str] = set()
        self._number = 0

    def step(self) -> None:
        """Write a category."""
        key, self._number = next(self._keys), self._number + 1
        title = f"Title {self._number}"
        body = json.dumps({"category": {"title": title}}).encode()
        written = self.api.request("PUT", f"{CATEGORIES}/{key}", self._token, body, "application/json")
        if written is None:
            self._titles[key].add(title)
        elif written[0] in (200, 201):
            self._titles[key] = {title}
            self._acknowledged.add(key)
        else:
            self._tally.add(wrong=f"PUT {CATEGORIES}: status {written[0]}")

    def lost(self) -> list[str]:
        """Return the categories whose last acknowledged write is not stored."""
        return [key for key in sorted(self._acknowledged) if self._stored_title(key) not in self._titles[key]]

    def _stored_title(self, key: str) -> str | None:
        found = self.api.request("GET", f"{CATEGORIES}/{key}", self._token)
        return json.loads(found[1])["category"]["title"] if found is not None and found[0] == 200 else None


class AppClient:
    """OAuth client that requests access tokens, and reads with them. It also tries a token that was revoked."""

    def __init__(self, api: Api, credentials: Mapping[str, str], revoked: str, path: str, expected: Response) -> None:
        self.api, self._revoked, self._path, self._expected = api, revoked, path, expected
        self._form = urlencode({"grant_type": "client_credentials", **credentials}).encode()

    def step(self) -> None:
        """Request a token, and use it."""
        found = self.api.request("POST", "/oauth/token", body=self._form, kind="application/x-www-form-urlencoded")
        if found is not None and found[0] == 200:
            token = json.loads(found[1])["access_token"]
            self.api.expect(self.api.request("GET", self._path, token), self._expected, self._path)
        else:
            self.api.expect(found, (200, b""), "/oauth/token")
        rejected = self.api.request("GET", self._path, self._revoked)
        if rejected is not None and rejected[0] not in REJECTED:
            self.api.expect(rejected, (401, b""), "revoked token")


def run_steps(step: Callable[[], None], is_over: threading.Event) -> None:
    """Repeat a step until the event is set."""
    while not is_over.is_set():
        step()
