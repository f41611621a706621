"""Second process on the same store, controlled by lines on its standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from threading import Timer
from types import TracebackType
from typing import Any, Self

from backends import Backend, Query, Record, StorageBusyError, Transaction, open_store
from backends.testing.base import COLLECTIONS, TENANT, find_keys, record

__all__ = ["WorkerProcess", "count_up"]

_TIMEOUT_SECONDS = 30.0
"""Time after which a process that does not respond is killed, so that the suite never hangs."""


class WorkerProcess:
    """Python process that has the store open. `ask` sends a command and returns the response."""

    def __init__(self, url: str) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve({url!r})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._watchdog = Timer(_TIMEOUT_SECONDS, self._process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def ask(self, command: str, argument: Any = None) -> Any:
        """Send a command and return the response. Raises AssertionError if the process has ended."""
        self.send(command, argument)
        return self.response()

    def send(self, command: str, argument: Any = None) -> None:
        """Send a command without waiting for the response."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, argument]) + "\n")
        self._process.stdin.flush()

    def response(self) -> Any:
        """Return the next response."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the other process ended without a response; see its output"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        self._watchdog.cancel()


def serve(url: str) -> None:
    """Run the commands on standard input and write the responses to standard output."""
    with open_store(url, COLLECTIONS) as store:
        transactions: list[Transaction] = []
        for line in sys.stdin:
            command, argument = json.loads(line)
            sys.stdout.write(json.dumps(run_command(store, transactions, command, argument)) + "\n")
            sys.stdout.flush()


def run_command(store: Backend, transactions: list[Transaction], command: str, argument: Any) -> Any:
    """Run one command and return the response."""
    match command:
        case "find":
            with store.read(TENANT) as snapshot:
                return find_keys(snapshot)
        case "deep":
            with store.read(TENANT) as snapshot:
                return [snapshot.find(Query("people", offset=argument, limit=5)).body().decode() for _ in range(3)][-1]
        case "revision":
            with store.read(TENANT) as snapshot:
                return snapshot.revision
        case "version":
            return repr(store.version(TENANT))
        case "hold":
            transactions.append(store.write(TENANT))
            transactions[-1].put("people", [record(argument)])
        case "commit":
            transactions.pop().__exit__(None, None, None)
        case "try":
            return attempt(store, argument)
        case "count":
            for _ in range(argument):
                count_up(store)
    return "done"


def attempt(store: Backend, wait: float) -> str:
    """Return "ok" if a write gets the lock within `wait` seconds, otherwise "busy"."""
    try:
        with store.write(TENANT, wait):
            return "ok"
    except StorageBusyError:
        return "busy"


def count_up(store: Backend) -> None:
    """Increment a stored number. The result is correct only if the write lock is exclusive."""
    with store.write(TENANT) as transaction:
        before = transaction.get_many("notes", ["counter"]).get("counter", b'"0"')
        after = str(int(json.loads(before)) + 1)
        transaction.put("notes", [Record("counter", json.dumps(after).encode(), {"state": after})])
