"""Imports of a district into new stores: the first, the same rows again, a delta, and without sequence numbers."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.access import create_line_item
from bench.district import write_delta, write_package
from bench.figures import Figure
from bench.servers import BASELINE, CHALK, BenchmarkError, CompletedCommand, Server, chalk_server, run_command

__all__ = ["measure_imports", "measure_imports_beside_writes"]

WRITES_PER_SECOND = 10


class ImportRound(NamedTuple):
    """Commands of one round. All but `bare` are imports of the service."""

    first: CompletedCommand
    bare: CompletedCommand
    unnumbered: CompletedCommand
    again: CompletedCommand
    delta: CompletedCommand


def measure_imports(users: int, folder: Path, rounds: int) -> tuple[str, list[Figure]]:
    """Import a district, the same rows again, and a delta.

    Returns the URL of a store that holds the district alone, and the figures.
    """
    package, later, delta = (folder / f"{name}.zip" for name in ("district", "later", "delta"))
    write_package(users, package)
    # An import skips a file that it imported before, so the second package has other bytes.
    write_package(users, later, day=2)
    write_delta(users, delta)
    results = [_run_round(package, later, delta, folder / f"store{number}.db", number) for number in range(rounds)]
    return f"sqlite:///{folder}/store{rounds - 1}.db", _figures(results)


def measure_imports_beside_writes(storage: str, users: int, folder: Path) -> Iterator[Figure]:
    """Yield the time of imports while a grade tool writes over that of the same imports alone, and its longest write.

    The delta of `measure_imports` and the whole district are imported in turn, so that each import changes records.
    """
    store = folder / "beside.db"
    shutil.copyfile(storage.removeprefix("sqlite:///"), store)
    rounds = [[folder / "delta.zip", folder / f"day{day}.zip"] for day in (3, 4)]
    for day, (_, package) in enumerate(rounds, 3):
        write_package(users, package, day=day)
    with chalk_server(f"sqlite:///{store}") as server:
        seconds = [_import_all(rounds[0], store)]
        with _writing(server) as waits:
            seconds.append(_import_all(rounds[1], store))
    note = f"{seconds[1]:.1f} s beside {WRITES_PER_SECOND} PUTs a second, over {seconds[0]:.1f} s alone"
    yield Figure("import.beside", seconds[1] / seconds[0], note)
    yield Figure("import.beside.put", max(waits), f"s for the longest of {len(waits)} PUTs meanwhile")


def _import_all(packages: Iterable[Path], store: Path) -> float:
    arguments = ("--json", "--storage", f"sqlite:///{store}")
    return sum(run_command(*CHALK, "import", package, *arguments).seconds for package in packages)


@contextmanager
def _writing(server: Server) -> Iterator[list[float]]:
    """Write results until the end of the block, and yield the list of durations in seconds."""
    put_result, _ = create_line_item(server)
    stopped, waits, statuses = threading.Event(), [0.0], set[int]()

    def write() -> None:
        connection, number = server.connect(), 0
        while not stopped.wait(1 / WRITES_PER_SECOND):
            start = time.perf_counter()
            statuses.add(put_result(connection, number))
            waits.append(time.perf_counter() - start)
            number += 1
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield waits
    finally:
        stopped.set()
        thread.join()
    if not statuses <= {200, 201}:
        raise BenchmarkError(f"PUTs beside an import were answered with {sorted(statuses)}")


def _run_round(package: Path, later: Path, delta: Path, store: Path, number: int) -> ImportRound:
    copy, unnumbered = store.with_name("delta.db"), store.with_name("unnumbered.db")
    arguments = ("import", package, "--json", "--storage")
    pair = [((*CHALK, *arguments), store), ((*BASELINE, "unnumbered", *arguments), unnumbered)]
    # The first command runs on a colder machine, so the two alternate.
    imports = {
        file: run_command(*command, f"sqlite:///{file}") for command, file in (pair if number % 2 else reversed(pair))
    }
    bare = run_command(*BASELINE, "load", package, store.with_name("bare.db"))
    again = run_command(*CHALK, "import", later, "--json", "--storage", f"sqlite:///{store}")
    shutil.copyfile(store, copy)
    os.sync()  # otherwise the import waits for the disk to write the copy
    changed = run_command(*CHALK, "import", delta, "--json", "--storage", f"sqlite:///{copy}")
    for file in (copy, unnumbered):
        file.unlink()
    return ImportRound(imports[store], bare, imports[unnumbered], again, changed)


def _figures(rounds: Sequence[ImportRound]) -> list[Figure]:
    seconds = ImportRound(*(median(run.seconds for run in side) for side in zip(*rounds, strict=True)))
    rows = rounds[0].first.json["total"]["rows"]
    peak = max(run.peak_mb for measured in rounds for run in (measured.first, measured.again, measured.delta))
    bare_peak = max(measured.bare.peak_mb for measured in rounds)
    bare, again, delta, sequence = (
        median(numerator.seconds / denominator.seconds for numerator, denominator in pairs)
        for pairs in (
            [(measured.first, measured.bare) for measured in rounds],
            [(measured.again, measured.first) for measured in rounds],
            [(measured.delta, measured.first) for measured in rounds],
            [(measured.first, measured.unnumbered) for measured in rounds],
        )
    )
    return [
        Figure("import", bare, f"{seconds.first:.1f} s for {rows:,} rows, over {seconds.bare:.1f} s for a bare load"),
        Figure("import.peak", peak, f"MiB at the peak; {bare_peak:.0f} for the bare load"),
        Figure("import.again", again, f"{seconds.again:.1f} s for the same rows again, over the first import"),
        Figure(
            "import.again.changed",
            sum(_changes(measured.again) for measured in rounds),
            "records changed by the second",
        ),
        Figure("import.delta", delta, f"{seconds.delta:.2f} s for {_counts(rounds[0].delta)}, over the first import"),
        Figure(
            "import.sequence",
            sequence,
            f"first import over {seconds.unnumbered:.1f} s for one without sequence numbers",
        ),
    ]


def _changes(run: CompletedCommand) -> int:
    return sum(run.json["total"][name] for name in ("created", "updated", "deleted"))


def _counts(run: CompletedCommand) -> str:
    total = run.json["total"]
    return ", ".join(f"{total[name]:,} {name}" for name in ("created", "updated", "deleted"))
