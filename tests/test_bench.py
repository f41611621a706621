"""The benchmark runs as printed, on a small district for a moment. No time is judged here."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.figures import BARS, Bar, Figure, table, verdicts
from bench.roster import District, write_package
from chalk_flask.settings import Settings
from tests.support.paths import ROOT


def bench(folder: Path, *words: str) -> tuple[str, dict[str, float]]:
    """What the benchmark printed, and its figures."""
    command = [sys.executable, "-m", "bench", "--load", "python", "--seconds", "0.05", "--rounds", "1", *words]
    done = subprocess.run(
        [*command, "--json", folder / "figures.json"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads((folder / "figures.json").read_text())
    return done.stdout, figures


def test_every_figure_that_has_a_bar_is_measured_and_every_record_is_found(tmp_path: Path) -> None:
    printed, figures = bench(tmp_path, "--users", "500", "--imports", "1")
    assert set(figures) == {*BARS, "sort"}
    assert (figures["walk.missing"], figures["import.again.changed"]) == (0, 0)
    # Of 500 users a hundredth are 5, of 60 classes 1, of 20 courses 1; enrollments begin, change and end in turn.
    assert re.search(r"s for 1[0-9] created, 1[0-9] updated, 1[0-9] deleted, over the first", printed)
    assert all(figures[name] > 0 for name in figures if BARS.get(name, Bar("≥", 1)).sense == "≥")
    assert all(f"| {name} | {value:.3f} |" in printed for name, value in figures.items())


def test_two_districts_are_compared_read_by_read(tmp_path: Path) -> None:
    _, figures = bench(tmp_path, "--growth", "200", "400")
    assert "growth.get" in figures
    assert len(figures) == 9
    assert all(value > 0 for value in figures.values())


def test_a_figure_below_its_bar_is_named_with_both_numbers() -> None:
    figures = [Figure("get", 0.59, "slow"), Figure("stream.memory", 8, "full"), Figure("growth.get", 1.6, "steep")]
    figures += [Figure("sort", 0.01, "no bar"), Figure("page0", 0.45, "just so")]
    assert verdicts(figures) == ["get is 0.590, and should be ≥ 0.6", "growth.get is 1.600, and should be ≤ 1.5"]
    assert "| get | 0.590 | ≥ 0.6 | slow |" in table(figures)


def test_a_district_of_100_000_users_has_the_proportions_that_the_figures_are_about() -> None:
    district = District(100_000)
    sizes = (district.n_schools + 1, district.n_courses, district.n_classes, len(list(district.academicSessions())))
    assert sizes == (60, 4_000, 12_000, 20)
    teaching = sum(1 + number % 2 for number in range(district.n_classes))
    assert teaching + 11 * district.n_students == 700_000


def test_the_same_number_of_users_makes_the_same_package_in_which_members_of_a_class_are_of_its_school(
    tmp_path: Path,
) -> None:
    write_package(600, tmp_path / "a.zip")
    write_package(600, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    users = {row["sourcedId"]: row for row in rows(tmp_path / "a.zip", "users")}
    classes = {row["sourcedId"]: row["schoolSourcedId"] for row in rows(tmp_path / "a.zip", "classes")}
    enrollments = rows(tmp_path / "a.zip", "enrollments")
    for row in enrollments:
        user = users[row["userSourcedId"]]
        assert classes[row["classSourcedId"]] == row["schoolSourcedId"] == user["orgSourcedIds"]
        assert user["role"] == row["role"]
    twice = Counter((row["classSourcedId"], row["userSourcedId"]) for row in enrollments).most_common(1)
    assert twice[0][1] == 1


def rows(package: Path, name: str) -> list[dict[str, Any]]:
    with zipfile.ZipFile(package) as archive, archive.open(f"{name}.csv") as raw:
        return list(csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline="")))


def test_a_district_that_is_too_small_is_refused_with_a_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="200 at least"):
        write_package(10, tmp_path / "a.zip")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--users", "10"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("10 users are too few: 200 at least")


def test_the_largest_district_stays_within_what_a_package_may_unpack_to(tmp_path: Path) -> None:
    write_package(2_000, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    assert unpacked * 150 < Settings().import_max_mb << 20
