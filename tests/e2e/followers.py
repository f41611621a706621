"""Server that is killed while a roster changes: changes, a follower of the change feed, and the server process."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chalk_flask.oneroster.schemas import RESOURCES
from tests.e2e.conftest import CLEAN_ENVIRON, ROOT, run_command
from tests.support.packages import PackageBuilder
from tests.support.receiver import Receiver
from tests.support.server_process import read_until

PUBLIC_URL = "https://roster.example.org"
API_PATH = "/api/oneroster/v1p1"
CHANGE_TIME = "2026-09-01T10:00:00.000Z"
USER_COUNT, CATEGORY_COUNT, DELTA_ROW_COUNT = 150, 40, 60


@dataclass
class Follower:
    """Follower of the change feed that started with a full read and survives restarts of the server.

    `last_numbers` holds the sequence number of the last change of each record.
    """

    records: dict[tuple[str, str], Any]
    sequence: int
    last_numbers: dict[tuple[str, str], int] = field(default_factory=dict)

    def follow(self, client: Client) -> bool:
        """Apply one page and return True if there are more. Raises OSError or HTTPException if the server is gone."""
        page = client.get(f"/changes?since={self.sequence}&limit=50")
        for change in page["changes"]:
            assert change["sequence"] > self.sequence
            key = change["entity"], change["sourcedId"]
            self.records[key], self.last_numbers[key] = change["record"], change["sequence"]
        self.sequence = page["sequence"]
        return bool(page["more"])


@dataclass
class Client:
    """API client with one connection to one server process."""

    port: int
    token: str

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def request(self, path: str, method: str = "GET", body: object = None) -> tuple[int, bytes]:
        """Send a request and return status and body of the response."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        payload = None if body is None else json.dumps(body)
        self.connection.request(method, API_PATH + path, payload, headers)
        response = self.connection.getresponse()
        return response.status, response.read()

    def get(self, path: str) -> Any:
        """Return the JSON of a successful GET."""
        status, body = self.request(path)
        assert status == 200, body
        return json.loads(body)

    def read_all(self) -> dict[tuple[str, str], Any]:
        """Return all records that a client can read, including deleted ones, by class name and id."""
        condition = quote("dateLastModified>'2000-01-01'")
        return {
            (resource_type.singular_name, record["sourcedId"]): record
            for name, resource_type in RESOURCES.items()
            for record in self.get(f"/{name}?filter={condition}")[name]
        }

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class RosterUnderTest:
    """Store with a roster, a token, and two webhooks of the receiver, one in each mode."""

    def __init__(self, folder: Path, storage: str, receiver: Receiver, generator: random.Random) -> None:
        self.folder, self.storage, self._random = folder, storage, generator
        self._options = ("--storage", storage, "--data", str(folder / "data"))
        self._server_options = (*self._options, "--webhook-allowed-hosts", "127.0.0.1", "--public-url", PUBLIC_URL)
        self._number = 0
        run_command(folder, "import", self._base().zip(folder / "base.zip"), *self._options)
        token = run_command(folder, "token", "create", "--label", "t", "--scope", "all", "--json", *self._options[:2])
        self.token: str = json.loads(token)["token"]
        self.webhooks = {mode: self._webhook(receiver.url, mode) for mode in ("per_entity", "batched")}

    def _webhook(self, url: str, mode: str) -> dict[str, Any]:
        webhook: dict[str, Any] = json.loads(
            run_command(
                self.folder,
                "webhook",
                "create",
                "--url",
                url,
                "--mode",
                mode,
                "--full",
                "--json",
                *self._server_options,
            )
        )
        return webhook

    @staticmethod
    def _base() -> PackageBuilder:
        package = PackageBuilder()
        template = package.row("users", "pupil-2")
        for number in range(USER_COUNT):
            package.rows["users"].append(template | {"sourcedId": f"u-{number}", "username": f"u{number}"})
        return package

    @contextmanager
    def server(self) -> Iterator[tuple[subprocess.Popen[str], int]]:
        """Start a server, yield its process and port, and kill it at the end.

        It logs only errors, because the test stops reading its output, and a full pipe would block it.
        """
        arguments = ("serve", "--port", "0", "--log-level", "error", *self._server_options)
        with subprocess.Popen(
            [sys.executable, "-m", "chalk_flask", *arguments],
            cwd=self.folder,
            env=CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process, int(read_until(process.stderr, r"Listening on http://\S+:(\d+)")[1])
            finally:
                process.kill()

    def start_delta_import(self) -> subprocess.Popen[bytes]:
        """Start an import of users that are changed, deleted, revived or new, and return its process."""
        package = PackageBuilder().only("users")
        package.properties["file.users"] = "delta"
        template = package.row("users", "pupil-2")
        package.rows["users"] = []
        for index, number in enumerate(self._random.sample(range(USER_COUNT + 50), DELTA_ROW_COUNT)):
            status = "tobedeleted" if index < 5 else "active"
            cells = {
                "sourcedId": f"u-{number}",
                "username": f"u{number}",
                "status": status,
                "dateLastModified": CHANGE_TIME,
            }
            package.rows["users"].append(template | cells | {"givenName": f"Name {self._random.random()}"})
        self._number += 1
        path = package.zip(self.folder / f"delta-{self._number}.zip")
        command = [sys.executable, "-m", "chalk_flask", "import", str(path), *self._options]
        environ = CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, cwd=self.folder, env=environ, stdout=subprocess.DEVNULL)

    def write_category(self, client: Client) -> None:
        """Put or delete a random category. Raises OSError or HTTPException if the server is gone."""
        key = f"c-{self._random.randrange(CATEGORY_COUNT)}"
        if self._random.random() < 0.2:
            status, body = client.request(f"/categories/{key}", "DELETE")
            assert status in (200, 204, 404), body
        else:
            category = {"title": f"Title {self._random.random()}"}
            status, body = client.request(f"/categories/{key}", "PUT", {"category": category})
            assert status in (200, 201), body
