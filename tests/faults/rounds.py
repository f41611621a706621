"""Rounds of faults: `python -m tests.faults.rounds --backend sqlite` prints how many broke a promise.

Each round copies a store, lets one call of an action fail, and examines the store afterwards. It must open without a
manual step, be in the state before or after the action, and contain what was acknowledged. The processes of a round are
forks of one that has imported the program.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click

from tests.faults.actions import (
    ACTIONS,
    FIRST_LOADS,
    Place,
    create_empty_place,
    create_place,
    read_state,
    run_command,
)
from tests.faults.library import PRELOAD, Kind, Operation, arm_fault, build_library, count_calls, is_loaded
from tests.support.paths import ROOT

KINDS: Final = {
    Operation.WRITE: (Kind.KILL, Kind.TORN, Kind.SHORT, Kind.FULL, Kind.FAIL),
    Operation.FSYNC: (Kind.KILL, Kind.FULL, Kind.FAIL),
    Operation.RENAME: (Kind.KILL, Kind.FULL, Kind.FAIL),
    Operation.OPEN: (Kind.KILL, Kind.FAIL),
    Operation.CREATE: (Kind.FULL,),
}

KEPT: Final = ("former", "later", "later without audit event")
"""Results that break no promise."""
AUDITED_AFTERWARDS: Final = ("backup",)
"""Actions that write a file, so that no transaction contains both it and the audit event."""


@dataclass(frozen=True)
class Round:
    """One fault in one action."""

    action: str
    operation: Operation
    kind: Kind
    number: int

    def __str__(self) -> str:
        return f"{self.action}: {self.kind.name.lower()} at {self.operation.name.lower()} {self.number}"


def run_in_fork(function: Callable[[], Any]) -> Any:
    """Return the JSON value of a function that runs in a fork, or None if the fork was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(function()).encode())
        except BaseException:  # noqa: BLE001 - the fork must end here
            os.write(writer, json.dumps({"error": traceback.format_exc()[-1500:]}).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return json.loads(content) if content else None


class Laboratory:
    """Store that each round starts from, and the states before and after each action.

    With `is_empty` the store has no roster, and the actions are `FIRST_LOADS`.
    """

    def __init__(self, folder: Path, backend: str, *, is_empty: bool = False) -> None:
        self._actions, create = (FIRST_LOADS, create_empty_place) if is_empty else (ACTIONS, create_place)
        self._original = folder / "original"
        self.place = Place(folder / "place", backend)
        self.place.folder.mkdir()
        self.place.use()
        self._require(run_in_fork(lambda: create(self.place)))
        shutil.copytree(self.place.store, self._original)
        self.former = self._require(run_in_fork(lambda: read_state(self.place)))
        _import_all(self._require(run_in_fork(self._list_modules)))
        self._counts: dict[str, dict[str, int]] = {}
        self.later = {action: self._run_without_fault(action) for action in self._actions}

    def rounds(self, actions: Iterable[str] = ()) -> Iterator[Round]:
        """Yield a round for each call of each operation of the actions, by default of all, and each kind of fault."""
        for action in actions or self._actions:
            for operation, kinds in KINDS.items():
                for kind in kinds:
                    for number in range(1, self._counts[action][operation.name] + 1):
                        yield Round(action, operation, kind, number)

    def run(self, each: Round) -> tuple[str, str]:
        """Run a round. Return `former` or `later` or the broken promise, and an explanation."""
        self._reset()
        result = run_in_fork(lambda: self._act(each))
        if isinstance(result, dict):
            return "unexpected error", result["error"]
        state = run_in_fork(self._examine)
        if not isinstance(state, dict) or "error" in state:
            return "store needs a manual step", str(state and state["error"])
        is_acknowledged, later = result is True, self.later[each.action]
        if each.action == "backup" and (is_acknowledged or self.place.archive.exists()):
            problem = run_in_fork(self._restore)
            if problem:
                return "half archive", str(problem)
        explanation = "acknowledged" if is_acknowledged else ""
        if state == later:
            return "later", explanation
        if state == self.former and not is_acknowledged:
            return "former", explanation
        if each.action in AUDITED_AFTERWARDS and _without_audit(state) == _without_audit(later):
            return "later without audit event", explanation
        if state == self.former:
            return "acknowledged write is lost", explanation
        return "half write", f"{_difference(state, self.former)}; after the action: {_difference(state, later)}"

    def _act(self, each: Round) -> bool:
        arm_fault(self.place.store, each.operation, each.kind, each.number)
        is_acknowledged = self._actions[each.action](self.place)
        count_calls()
        return is_acknowledged

    def _run_without_fault(self, action: str) -> Any:
        """Count the calls of an action, and return the state after it."""

        def count() -> dict[str, int]:
            arm_fault(self.place.store)
            assert self._actions[action](self.place)
            return count_calls()

        self._reset()
        self._counts[action] = self._require(run_in_fork(count))
        return self._require(run_in_fork(lambda: read_state(self.place)))

    def _examine(self) -> dict[str, object]:
        """Return the state of the store, after which the next commands succeed."""
        state = read_state(self.place)
        assert run_command("token", "create", "--label", "after")[0] == 0
        assert run_command("imports", "list")[0] == 0
        return state

    def _restore(self) -> str:
        target = Place(self.place.folder / "restored", self.place.backend)
        shutil.rmtree(target.folder, ignore_errors=True)
        target.store.mkdir(parents=True)
        target.use()
        code, _ = run_command("restore", str(self.place.archive))
        if code != 0:
            return f"restore ends with {code}"
        return "" if read_state(target)["digest"] == self.former["digest"] else "the archive has another roster"

    def _reset(self) -> None:
        shutil.rmtree(self.place.store)
        shutil.copytree(self._original, self.place.store)

    def _list_modules(self) -> list[str]:
        """Return the modules that the actions import."""
        for act in self._actions.values():
            act(self.place)
        self._examine()
        return sorted(sys.modules)

    @staticmethod
    def _require(value: Any) -> Any:
        assert not (isinstance(value, dict) and "error" in value), value["error"]
        return value


def _without_audit(state: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in state.items() if not name.endswith("/audit")}


def _difference(state: dict[str, object], other: dict[str, object]) -> list[str]:
    return sorted(set(map(str, state.items())) ^ set(map(str, other.items())))


def _import_all(names: list[str]) -> None:
    """Import modules in this process, so that its forks need not."""
    for name in names:
        with contextlib.suppress(ImportError):
            import_module(name)
    gc.freeze()


def choose(rounds: list[Round], count: int) -> list[Round]:
    """Return `count` rounds, spread evenly. All of them are among the result if there are fewer than `count`."""
    if count >= len(rounds):
        return [rounds[index % len(rounds)] for index in range(count)]
    return [rounds[index * len(rounds) // count] for index in range(count)]


@click.command()
@click.option("--backend", type=click.Choice(["sqlite", "json"]), default="sqlite")
@click.option("--rounds", "count", type=click.IntRange(min=1), help="Default: each possible round once.")
@click.option(
    "--part", type=(click.IntRange(min=1), click.IntRange(min=1)), default=(1, 1), help="2 4: the second of 4."
)
@click.option("--action", type=click.Choice(list(ACTIONS)), help="Default: all actions.")
@click.option("--first-loads", is_flag=True, help="Start from a store without a roster, with first loads.")
def main(backend: str, count: int | None, part: tuple[int, int], action: str | None, first_loads: bool) -> None:
    """Run rounds, and print their results. The exit code is 1 if a promise was broken."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        if not is_loaded():
            environ = os.environ | {PRELOAD: str(build_library(folder))}
            sys.exit(
                subprocess.run([sys.executable, "-m", __spec__.name, *sys.argv[1:]], cwd=ROOT, env=environ).returncode
            )
        laboratory = Laboratory(folder, backend, is_empty=first_loads)
        possible = list(laboratory.rounds([action] if action else ()))
        chosen = choose(possible, count or len(possible))[part[0] - 1 :: part[1]]
        sys.exit(_run_all(laboratory, chosen, {"backend": backend, "possible": len(possible)}))


def _run_all(laboratory: Laboratory, chosen: list[Round], head: dict[str, object]) -> int:
    results: Counter[str] = Counter()
    acknowledged, broken, started = 0, 0, time.monotonic()
    for each in chosen:
        result, explanation = laboratory.run(each)
        results[result] += 1
        acknowledged += explanation == "acknowledged"
        if result not in KEPT:
            broken += 1
            click.echo(f"{each}: {result}: {explanation}", err=True)
    figures = {
        **head,
        "rounds": len(chosen),
        "acknowledged": acknowledged,
        "broken": broken,
        **results,
        "seconds": round(time.monotonic() - started, 1),
    }
    click.echo(json.dumps(figures))
    return int(broken > 0)


if __name__ == "__main__":
    main()
