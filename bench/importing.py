"""Imports of a district into new stores: the first, the same again, a delta, and what the sequence adds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.figures import Figure
from bench.processes import CHALK, YARDSTICK, Ran, ran
from bench.roster import write_delta, write_package

__all__ = ["imports"]


class Turn(NamedTuple):
    """One round. All but the bare load are imports by the service."""

    first: Ran
    bare: Ran
    unnumbered: Ran
    again: Ran
    delta: Ran


def imports(users: int, folder: Path, rounds: int) -> tuple[str, list[Figure]]:
    """Import a district into new stores, and what comes after it. The URL of the last store that has but the district,
    and figures."""
    package, later, delta = (folder / f"{name}.zip" for name in ("district", "later", "delta"))
    write_package(users, package)
    # A file that was imported before would be known by its hash, and not be looked into.
    write_package(users, later, day=2)
    write_delta(users, delta)
    turns = [_turn(package, later, delta, folder / f"store{number}.db", number) for number in range(rounds)]
    return f"sqlite:///{folder}/store{rounds - 1}.db", _figures(turns)


def _turn(package: Path, later: Path, delta: Path, store: Path, number: int) -> Turn:
    copy, unnumbered = store.with_name("delta.db"), store.with_name("unnumbered.db")
    command = ("import", package, "--json", "--storage")
    pair = [((*CHALK, *command), store), ((*YARDSTICK, "unnumbered", *command), unnumbered)]
    # Who comes first has a colder machine, so that the two take turns at it.
    took = {file: ran(*words, f"sqlite:///{file}") for words, file in (pair if number % 2 else reversed(pair))}
    bare = ran(*YARDSTICK, "load", package, store.with_name("bare.db"))
    again = ran(*CHALK, "import", later, "--json", "--storage", f"sqlite:///{store}")
    shutil.copyfile(store, copy)
    os.sync()  # or the import would wait until the disk has taken all that was written before it
    changed = ran(*CHALK, "import", delta, "--json", "--storage", f"sqlite:///{copy}")
    for file in (copy, unnumbered):
        file.unlink()
    return Turn(took[store], bare, took[unnumbered], again, changed)


def _figures(turns: Sequence[Turn]) -> list[Figure]:
    seconds = Turn(*(median(ran.seconds for ran in side) for side in zip(*turns, strict=True)))
    rows = turns[0].first.json["total"]["rows"]
    peak = max(ran.peak_mb for turn in turns for ran in (turn.first, turn.again, turn.delta))
    bare_peak = max(turn.bare.peak_mb for turn in turns)
    bare, again, delta, sequence = (
        median(one.seconds / other.seconds for one, other in pairs)
        for pairs in (
            [(turn.first, turn.bare) for turn in turns],
            [(turn.again, turn.first) for turn in turns],
            [(turn.delta, turn.first) for turn in turns],
            [(turn.first, turn.unnumbered) for turn in turns],
        )
    )
    return [
        Figure("import", bare, f"{seconds.first:.1f} s for {rows:,} rows, over {seconds.bare:.1f} s for a bare load"),
        Figure("import.peak", peak, f"MiB at the peak; the bare load {bare_peak:.0f}"),
        Figure("import.again", again, f"{seconds.again:.1f} s for the same rows once more, over the first import"),
        Figure("import.again.changed", sum(_changed(turn.again) for turn in turns), "records that the second changed"),
        Figure("import.delta", delta, f"{seconds.delta:.2f} s for {_told(turns[0].delta)}, over the first import"),
        Figure(
            "import.sequence", sequence, f"the first import over {seconds.unnumbered:.1f} s for one without numbers"
        ),
    ]


def _changed(run: Ran) -> int:
    return sum(run.json["total"][name] for name in ("created", "updated", "deleted"))


def _told(run: Ran) -> str:
    total = run.json["total"]
    return ", ".join(f"{total[name]:,} {name}" for name in ("created", "updated", "deleted"))
