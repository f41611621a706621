"""Process that parses files: same store and same report as without it, and its failures."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import pytest
from click.testing import CliRunner

from backends import open_store
from chalk_flask.cli import main
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.roster.package.archive import FilePlace
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.roster.package.parser_process import ParserProcessError, process
from chalk_flask.roster.package.parser_process.messages import ParseRequest, SharedFile, read_batch
from chalk_flask.roster.package.parser_process.program import parse_files
from chalk_flask.storage import COLLECTIONS
from tests.oneroster.csv.test_diagnosis import CAUSES
from tests.roster.diff.test_first_load import changed_package
from tests.roster.imports.test_damaged_packages import PIECES, damaged
from tests.roster.imports.test_quarantine import damage
from tests.support.packages import (
    CSV_PACKAGES,
    ROWS,
    PackageBuilder,
    delta_package,
    large_package,
    small_first_loads,
    small_parsed_files,
    small_row,
)

MAX_SECONDS = 60.0
VARYING_MEMBERS = ("run", "dateLastModified", "seconds")


class ParserThread:
    """Thread in the place of the process, so that many packages are compared fast. It has the methods that are used."""

    def __init__(self, request: ParseRequest) -> None:
        reader, writer = os.pipe()
        self.stdout = os.fdopen(reader, "rb")
        self._thread = threading.Thread(target=self._run, args=(request, os.fdopen(writer, "wb")))
        self._thread.start()

    def _run(self, request: ParseRequest, stream: IO[bytes]) -> None:
        try:
            with stream:
                parse_files(request, stream)
        except BrokenPipeError:
            pass

    def kill(self) -> None:
        """Do nothing: the thread ends when its pipe is closed."""

    def wait(self) -> int:
        self._thread.join()
        return 0


Start: TypeAlias = Callable[[ParseRequest], "subprocess.Popen[bytes]"]

start_process: Start = process.start_process


@contextmanager
def started_by(start: Start) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Parse all files in what `start` returns until the end of the block, and yield the list of what was started."""
    started: list[subprocess.Popen[bytes]] = []

    def start_and_list(request: ParseRequest) -> subprocess.Popen[bytes]:
        started.append(start(request))
        return started[-1]

    vars(process)["start_process"] = start_and_list
    try:
        with small_parsed_files():
            yield started
    finally:
        vars(process)["start_process"] = start_process


def start_thread(request: ParseRequest) -> subprocess.Popen[bytes]:
    return cast("subprocess.Popen[bytes]", ParserThread(request))


def start_and_kill(request: ParseRequest) -> subprocess.Popen[bytes]:
    started = start_process(request)
    started.kill()
    return started


def report_and_digest(paths: list[Path], options: ImportOptions) -> tuple[list[dict[str, Any]], str]:
    """Import packages one after the other into an empty store."""
    reports = []
    with open_store("memory:", COLLECTIONS) as store, small_first_loads():
        for path in paths:
            report = import_package(store, "default", path, options).to_dict()
            reports.append({name: value for name, value in report.items() if name not in VARYING_MEMBERS})
        return reports, check_store(store).digest


def with_random_delta(draw: random.Random) -> PackageBuilder:
    """Return a delta package with some invalid rows."""
    rows = [
        {**row, "status": draw.choice(("active", "tobedeleted", "x")), "grades": draw.choice(("05", "KG,99", "x"))}
        for row in ROWS["users"]
    ]
    return damage(delta_package(users=rows, enrollments=[small_row("enrollments", "enr-1", role="x")]), draw)


def with_damaged_bytes(draw: random.Random) -> PackageBuilder:
    """Return the small package with a file that is hardly CSV."""
    package = PackageBuilder()
    name = draw.choice(list(ROWS))
    changes = [(draw.random(), draw.randrange(3), draw.choice(PIECES)) for _ in range(draw.randint(1, 4))]
    package.raw[f"{name}.csv"] = damaged(package.files()[f"{name}.csv"], changes)
    return package


def with_placeholders(draw: random.Random) -> PackageBuilder:
    """Return a package with placeholders, states, local codes, blank rows and metadata."""
    package = changed_package(draw.randrange(1000))
    package.extra["users"] = ["metadata.note"]
    for row in package.rows["users"]:
        row["metadata.note"] = draw.choice(("", "N/A", "#REF!", "a", "é"))
        row["grades"] = draw.choice(("", "05", "5", "KG,99", "x"))
        row["givenName"] = draw.choice(("Ada", "NULL", "#N/A"))
        row["status"] = draw.choice(("", "", "active"))
        row["dateLastModified"] = draw.choice(("", "2026-09-01", "yesterday"))
    package.raw["enrollments.csv"] = package.files()["enrollments.csv"].replace(b"\r\n", b"\r\n\r\n,,,\r\n", 9)
    return package


GENERATORS: list[Callable[[random.Random], PackageBuilder]] = [
    lambda draw: changed_package(draw.randrange(1000)),
    lambda draw: damage(PackageBuilder(), draw),
    with_random_delta,
    with_damaged_bytes,
    with_placeholders,
]


@pytest.mark.parametrize("seed", range(30))
def test_generated_packages_give_same_report_and_store(seed: int, tmp_path: Path) -> None:
    draw, numbers = random.Random(seed), count()
    build = GENERATORS[seed % len(GENERATORS)]
    packages = [large_package(), build(draw), build(draw)] if seed % 2 else [build(draw)]
    paths = [package.zip(tmp_path / f"{next(numbers)}.zip") for package in packages]
    options = ImportOptions(
        reading=ReadingOptions(lenient=draw.random() < 0.5, map_enrollment_roles=draw.random() < 0.5),
        invalid_rows="quarantine" if draw.random() < 0.5 else "reject",
        strict=draw.random() < 0.3,
    )
    expected = report_and_digest(paths, options)
    with started_by(start_thread) as started:
        assert report_and_digest(paths, options) == expected
    assert started


@pytest.mark.parametrize("case", CAUSES)
def test_malformed_packages_give_same_report(case: str, tmp_path: Path) -> None:
    path = CAUSES[case][0]().folder(tmp_path / "package")
    expected = report_and_digest([path], ImportOptions())
    with started_by(start_thread):
        assert report_and_digest([path], ImportOptions()) == expected


@pytest.mark.parametrize("name", ["minimal", "quirks"])
@pytest.mark.parametrize("lenient", [False, True])
def test_sample_packages_give_same_report_and_store(name: str, lenient: bool) -> None:
    options = ImportOptions(reading=ReadingOptions(lenient=lenient))
    expected = report_and_digest([CSV_PACKAGES / name], options)
    with started_by(start_thread) as started:
        assert report_and_digest([CSV_PACKAGES / name], options) == expected
    assert started


def test_batches_of_long_invalid_rows_are_short(tmp_path: Path) -> None:
    package = PackageBuilder().only("users")
    package.rows["users"] = [row | {"role": "x", "phone": "0" * 100_000} for row in ROWS["users"] * 10]
    path = package.folder(tmp_path / "package") / "users.csv"
    with path.open("rb") as file:
        place = FilePlace(file.fileno(), None)
        shared = SharedFile(place, path.stat().st_size, "bulk")
        stream = io.BytesIO()
        parse_files(ParseRequest({"users": shared}, ReadingOptions(), False, 1 << 20), stream)
    stream.seek(0)
    lengths = []
    while batch := read_batch(stream):
        lengths.append(len(batch.rows))
    assert lengths == [11, 11, 11, 7]


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_process_parses_the_files(form: str, tmp_path: Path) -> None:
    package = large_package().set("users", "pupil-1", role="x")
    path = package.zip(tmp_path / "p.zip") if form == "zip" else package.folder(tmp_path / "p")
    expected = report_and_digest([path], ImportOptions())
    with started_by(start_process) as started:
        assert report_and_digest([path], ImportOptions()) == expected
    [parser] = started
    assert parser.returncode is not None


def test_killed_process_fails_the_import_and_nothing_is_written(tmp_path: Path) -> None:
    path, options = large_package(20_000).zip(tmp_path / "package.zip"), ImportOptions()
    with open_store("memory:", COLLECTIONS) as store, small_first_loads(), started_by(start_process) as started:

        def kill(phase: str, *_: object) -> None:
            if phase == "enrollments":
                started[0].kill()

        with pytest.raises(ParserProcessError, match=r"parses enrollments\.csv was killed by signal 9: nothing was"):
            import_package(store, "default", path, options, on_progress=kill)
        assert check_store(store).counts == {}
        assert import_package(store, "default", path, options).state == "committed"
    assert len(started) == 2


def test_command_reports_a_killed_process(tmp_path: Path) -> None:
    path = large_package().zip(tmp_path / "package.zip")
    words = ["import", str(path), "--storage", f"sqlite:///{tmp_path}/roster.db", "--data", str(tmp_path / "data")]
    with started_by(start_and_kill):
        result = CliRunner().invoke(main, words, prog_name="chalk-flask")
    assert result.exit_code == 1
    assert "Error: the process that parses resources.csv was killed by signal 9" in result.output


def test_process_ends_when_the_import_is_killed(tmp_path: Path) -> None:
    path = large_package(20_000).zip(tmp_path / "package.zip")
    program = f"""
import os, signal
from pathlib import Path
from backends import open_store
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.storage import COLLECTIONS
from tests.roster.package.test_parser_process import start_process, started_by
with open_store("memory:", COLLECTIONS) as store, started_by(start_process) as started:
    def kill(phase, *_):
        if phase == "enrollments":
            print(started[0].pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    import_package(store, "default", Path({str(path)!r}), ImportOptions(), on_progress=kill)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.wait() == -signal.SIGKILL
    # Only the process itself has the other end of its pipe now.
    end = time.monotonic() + MAX_SECONDS
    while is_running(pid):
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return "parser_process" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_small_package_one_core_or_failed_start_need_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = large_package().zip(tmp_path / "package.zip")
    expected = report_and_digest([path], ImportOptions())
    with started_by(start_process) as started:
        monkeypatch.setattr(process, "MIN_FILE_BYTES", 1 << 20)
        assert report_and_digest([path], ImportOptions()) == expected
        monkeypatch.setattr(process, "MIN_FILE_BYTES", 1)
        monkeypatch.setattr(process, "core_count", lambda: 1)
        assert report_and_digest([path], ImportOptions()) == expected
        monkeypatch.setattr(process, "core_count", lambda: 2)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
        assert report_and_digest([path], ImportOptions()) == expected
    assert started == []
