"""Another process on the same store, driven line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from threading import Timer
from types import TracebackType
from typing import Any, Self

from backends import Backend, Query, Record, StorageBusyError, Transaction, open_store
from backends.testing.base import COLLECTIONS, TENANT, found, record

__all__ = ["WorkerProcess", "count_up"]

PATIENCE = 30.0
"""Seconds after which a peer that does not answer is killed, so that a suite never hangs."""


class WorkerProcess:
    """A Python process that has opened the store; `ask` sends it a line and returns what it answers."""

    def __init__(self, url: str) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve({url!r})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._watchdog = Timer(PATIENCE, self._process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def ask(self, command: str, argument: Any = None) -> Any:
        """What the peer answers; AssertionError when it has died."""
        self.tell(command, argument)
        return self.answer()

    def tell(self, command: str, argument: Any = None) -> None:
        """Send a command without waiting for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, argument]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """The next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the other process ended without an answer; its own output says why"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        self._watchdog.cancel()


def serve(url: str) -> None:
    """The other side: answer each line of standard input on standard output until there are no more."""
    with open_store(url, COLLECTIONS) as store:
        held: list[Transaction] = []
        for line in sys.stdin:
            command, argument = json.loads(line)
            sys.stdout.write(json.dumps(obey(store, held, command, argument)) + "\n")
            sys.stdout.flush()


def obey(store: Backend, held: list[Transaction], command: str, argument: Any) -> Any:
    """Do what one line says; the answer."""
    match command:
        case "find":
            with store.read(TENANT) as at:
                return found(at)
        case "deep":
            with store.read(TENANT) as at:
                return [at.find(Query("people", offset=argument, limit=5)).body().decode() for _ in range(3)][-1]
        case "revision":
            with store.read(TENANT) as at:
                return at.revision
        case "stamp":
            return repr(store.version(TENANT))
        case "hold":
            held.append(store.write(TENANT))
            held[-1].put("people", [record(argument)])
        case "commit":
            held.pop().__exit__(None, None, None)
        case "try":
            return attempt(store, argument)
        case "count":
            for _ in range(argument):
                count_up(store)
    return "done"


def attempt(store: Backend, wait: float) -> str:
    """Whether one may write within so many seconds."""
    try:
        with store.write(TENANT, wait):
            return "mine"
    except StorageBusyError:
        return "busy"


def count_up(store: Backend) -> None:
    """Read a number and write the next one, which is right only while nobody else writes."""
    with store.write(TENANT) as transaction:
        before = transaction.get_many("notes", ["counter"]).get("counter", b'"0"')
        after = str(int(json.loads(before)) + 1)
        transaction.put("notes", [Record("counter", json.dumps(after).encode(), {"state": after})])
