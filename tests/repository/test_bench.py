"""Benchmark on a small district. No duration is checked here."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from backends import Query, open_store
from bench.__main__ import main
from bench.charts import write_comparison_chart
from bench.console.pages import PAGES, UNMEASURED
from bench.district import District, write_delta, write_package
from bench.figures import TARGETS, Figure, Target, format_table, missed_targets
from bench.servers import BASELINE, run_command
from chalk_flask.console.routes import ROUTES
from chalk_flask.roster.changes.sequence import last_sequence
from chalk_flask.settings import Settings
from chalk_flask.storage import COLLECTIONS
from tests.support.paths import ROOT


def run_benchmark(folder: Path, *args: str) -> tuple[str, dict[str, float]]:
    """Return the output of the benchmark, and its figures."""
    command = [sys.executable, "-m", "bench", "--load", "python", "--seconds", "0.05", "--rounds", "1", *args]
    completed = subprocess.run(
        [*command, "--json", folder / "figures.json"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert completed.returncode == 0, completed.stderr
    figures: dict[str, float] = json.loads((folder / "figures.json").read_text())
    return completed.stdout, figures


@pytest.mark.slow
def test_benchmark_measures_every_figure_and_finds_every_record(tmp_path: Path) -> None:
    output, figures = run_benchmark(tmp_path, "--users", "500", "--imports", "1", "--hold", "0.3", "--requests", "1")
    pages = {name for name in figures if name.startswith(("console.page ", "console.size "))}
    assert pages == {f"console.{kind} {row.name}" for kind in ("page", "size") for row in PAGES}
    assert all(figures[name] < math.inf for name in pages), "every page was found"
    measured_apart = {name for name in TARGETS if name.startswith(("comparison.", "soak."))}
    repeated = {name for name in figures if name.endswith(".same")}
    assert {name.removesuffix(".same") for name in repeated} == {
        *("get", "deep", "filter", "filterdeep", "sort", "fields", "classstudents", "schoolstudents")
    }
    without_target = {"observability.log_requests", "webhooks.cpu"}
    assert figures.keys() - pages - repeated == {*TARGETS, *without_target} - measured_apart
    assert (figures["walk.missing"], figures["import.again.changed"], figures["put.lost"]) == (0, 0, 0)
    # A hundredth of 500 users is 5, of 60 classes 1, of 20 courses 1. Enrollments are created, updated and deleted.
    assert re.search(r"s for 1[0-9] created, 1[0-9] updated, 1[0-9] deleted, over the first", output)
    at_least = [name for name in figures if TARGETS.get(name, Target("≥", 1)).comparison == "≥"]
    assert all(figures[name] > 0 for name in at_least)
    assert all(f"| {name} | {value:.3f} |" in output for name, value in figures.items())


@pytest.mark.slow
def test_growth_compares_two_districts_read_by_read(tmp_path: Path) -> None:
    plot = tmp_path / "growth.svg"
    output, figures = run_benchmark(tmp_path, "--growth", "400", "200", "300", "--plot", str(plot))
    assert len(figures) == 9
    assert all(value > 0 for value in figures.values())
    assert re.search(r"growth.get .* responses/s: [\d,]+ for 200 users, [\d,]+ for 300 users, [\d,]+ for 400", output)
    assert {"growth." + text for text in svg_texts(plot)} >= figures.keys()


def svg_texts(path: Path) -> set[str]:
    """Return the texts of an SVG file."""
    return {"".join(text.itertext()).strip() for text in ElementTree.parse(path).iter() if text.tag.endswith("}text")}


def test_comparison_chart_names_every_server_and_rate(tmp_path: Path) -> None:
    rates = {"Chalk Flask, one process": 2345.0, "nginx": 87_000.4, "sqlalchemy": 59.0}
    for name in ("a.svg", "b.svg"):
        write_comparison_chart(tmp_path / name, {"get": rates, "page": rates, "page0": {}})
    assert svg_texts(tmp_path / "a.svg") >= {*rates, "2,345", "87,000", "59", "One user by id"}
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "a.svg"], "--plot requires one of --soak, --rivals and --growth"),
        (["--plot", "a.svg", "--rivals", "--soak", "1"], "--plot requires one of --soak, --rivals and --growth"),
        (["--plot", "a.pdf", "--rivals"], "the file a.pdf of --plot must end in .png or .svg"),
    ],
)
def test_invalid_plot_is_rejected(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(options)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_unnumbered_baseline_assigns_no_sequence_numbers(tmp_path: Path) -> None:
    write_package(200, tmp_path / "district.zip")
    write_delta(200, tmp_path / "delta.zip")
    storage = f"sqlite:///{tmp_path}/unnumbered.db"
    for package in ("district.zip", "delta.zip"):
        run_command(*BASELINE, "unnumbered", "import", tmp_path / package, "--json", "--storage", storage)
    with open_store(storage, COLLECTIONS) as store, store.read("default") as snapshot:
        assert snapshot.find(Query("users", limit=0)).total == 201
        assert last_sequence(snapshot) == 0


def test_help_lists_every_part_in_plain_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    output = capsys.readouterr().out
    assert "{import,reads,stream,walk,access,observability,processes,webhooks,availability,console}" in output
    assert "ways-in" not in output, "a former name that is still accepted"


def test_unknown_part_is_rejected_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--only", "ways-in", "--only", "nonsense"])
    assert raised.value.code == 2
    assert "unknown part 'nonsense' (choose from import, reads" in capsys.readouterr().err


def test_missed_target_is_reported_with_both_numbers() -> None:
    figures = [Figure("get", 0.59, "slow"), Figure("stream.memory", 8, "full"), Figure("growth.get", 1.6, "steep")]
    figures += [Figure("sort.same", 0.01, "no target"), Figure("page0", 0.8, "just met")]
    assert missed_targets(figures) == ["get is 0.590; the target is ≥ 0.95", "growth.get is 1.600; the target is ≤ 1.5"]
    assert "| get | 0.590 | ≥ 0.95, missed | slow |" in format_table(figures)


def test_every_page_of_the_console_is_measured() -> None:
    rows = {route.endpoint for route in ROUTES if "GET" in route.methods}
    assert rows == {row.endpoint for row in PAGES} | UNMEASURED.keys()
    assert len({row.name for row in PAGES}) == len(PAGES)


def test_district_of_100_000_users_has_the_documented_proportions() -> None:
    district = District(100_000)
    sizes = (district.n_schools + 1, district.n_courses, district.n_classes, len(list(district.academicSessions())))
    assert sizes == (60, 4_000, 12_000, 20)
    teaching = sum(1 + number % 2 for number in range(district.n_classes))
    assert teaching + 11 * district.n_students == 700_000


def test_package_is_reproducible_and_its_enrollments_are_valid(tmp_path: Path) -> None:
    write_package(600, tmp_path / "a.zip")
    write_package(600, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    users = {row["sourcedId"]: row for row in read_rows(tmp_path / "a.zip", "users")}
    classes = {row["sourcedId"]: row["schoolSourcedId"] for row in read_rows(tmp_path / "a.zip", "classes")}
    enrollments = read_rows(tmp_path / "a.zip", "enrollments")
    for row in enrollments:
        user = users[row["userSourcedId"]]
        assert classes[row["classSourcedId"]] == row["schoolSourcedId"] == user["orgSourcedIds"]
        assert user["role"] == row["role"]
    pairs = Counter((row["classSourcedId"], row["userSourcedId"]) for row in enrollments)
    assert max(pairs.values()) == 1, "a user is enrolled in a class once"


def read_rows(package: Path, name: str) -> list[dict[str, Any]]:
    with zipfile.ZipFile(package) as archive, archive.open(f"{name}.csv") as raw:
        return list(csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline="")))


def test_district_that_is_too_small_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="minimum is 200"):
        write_package(10, tmp_path / "a.zip")
    with pytest.raises(SystemExit) as raised:
        main(["--users", "10"])
    assert raised.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("10 users are too few; the minimum is 200")


def test_largest_district_is_within_the_size_limit_of_imports(tmp_path: Path) -> None:
    write_package(2_000, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
    assert unpacked_bytes * 150 < Settings().import_max_mb << 20
