"""Comparison with other servers and soak test of the benchmark. No duration is checked here."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.comparison.data import choose_sample, count_records, write_datasette, write_json_server
from bench.comparison.installation import install_servers
from bench.comparison.servers import RECORD_COUNTS, own_requests
from bench.figures import Figure, missed_targets
from bench.load_generator import measure_load
from bench.servers import BenchmarkError, Server, baseline_server
from bench.soak.memory import MemorySample, fit_trend, measure_memory, period_floors
from tests.repository.test_bench import run_benchmark, svg_texts

USERS = [
    {"sourcedId": f"u{number}", "role": "teacher" if number % 3 else "student", "grades": ["07"]}
    for number in range(400)
]


@pytest.fixture
def static_server(tmp_path: Path) -> Iterator[Server]:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"{}")
    with baseline_server(tmp_path) as server:
        yield server


@pytest.mark.slow
def test_comparison_measures_the_service_and_the_baseline(tmp_path: Path) -> None:
    plot = tmp_path / "comparison.svg"
    output, figures = run_benchmark(tmp_path, "--users", "500", "--rivals", "baseline", "--plot", str(plot))
    assert svg_texts(plot) >= {"baseline", "Chalk Flask, one process", "Chalk Flask, one process per core"}
    kinds = [*RECORD_COUNTS, "p99", "collection"]
    assert figures.keys() == {f"comparison.baseline.{kind}{suffix}" for kind in kinds for suffix in ("", ".one")}
    assert all(value > 0 for value in figures.values())
    assert "responses/s with one process," in output


@pytest.mark.slow
def test_soak_counts_failures_and_writes_a_plot(tmp_path: Path) -> None:
    plot = tmp_path / "soak.png"
    output, figures = run_benchmark(tmp_path, "--users", "300", "--soak", "0.15", "--plot", str(plot))
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert figures.keys() == {"soak.slope", "soak.memory", "soak.p99", "soak.failed"}
    assert figures["soak.failed"] == 0, output
    assert figures["soak.memory"] > 10


@pytest.mark.slow
def test_paths_are_requested_in_turn_until_one_fails(static_server: Server) -> None:
    assert measure_load("python", static_server, ["/one", "/two"], 2, 0.05).p99_seconds > 0
    with pytest.raises(BenchmarkError, match="is not 200"):
        measure_load("python", static_server, ["/one", "/two", "/three"], 2, 0.05)


def test_server_that_cannot_be_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchmarkError) as raised:
        install_servers(["baseline", "json-server"], tmp_path / "cache")
    assert str(raised.value) == (
        "cannot install json-server: node and npm are not on PATH: apt-get install nodejs npm\n"
        "To measure without it, name the others after --rivals."
    )


def test_unknown_server_is_rejected_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--rivals", "apache"])
    assert raised.value.code == 2
    assert "invalid choice: 'apache'" in capsys.readouterr().err


def test_random_pages_are_full_and_known_to_key_paging() -> None:
    sample = choose_sample(USERS)
    ids = sorted(user["sourcedId"] for user in USERS)
    assert (len(sample.ids), len(sample.offsets), len(sample.student_offsets)) == (200, 40, 40)
    assert len({*sample.offsets}) > 10
    assert max(sample.offsets) <= 300
    assert [ids.index(key) + 1 for key in sample.after] == list(sample.offsets)
    assert max(sample.student_offsets) <= sum(user["role"] == "student" for user in USERS) - 100
    requests, collection = own_requests(sample)
    assert (requests.keys(), collection) == (RECORD_COUNTS.keys(), "/users?limit=400")


def test_compared_servers_get_the_same_users(tmp_path: Path) -> None:
    write_json_server(USERS, tmp_path / "users.json")
    write_datasette(USERS, tmp_path / "users.db")
    assert json.loads((tmp_path / "users.json").read_text())["users"][7] == {"id": "u7", **USERS[7]}
    with closing(sqlite3.connect(tmp_path / "users.db")) as database:
        rows = database.execute("SELECT count(*), max(grades) FROM users WHERE role = 'student'").fetchall()
    assert rows == [(134, '["07"]')]


def test_records_are_counted_in_each_format() -> None:
    bodies = (b'{"users":[{},{}]}', b"[{},{},{}]", b'{"user":{"sourcedId":"a"}}', b'{"sourcedId":"a","id":"a"}')
    assert [count_records(body) for body in bodies] == [2, 3, 1, 1]
    with pytest.raises(BenchmarkError, match="contains no users"):
        count_records(b'{"error":"no such table"}')


@pytest.mark.parametrize("growth", [0.0, 1.0, -1.0, 8.0])
def test_slope_is_that_of_serving_processes_between_imports(growth: float) -> None:
    # Imports take 9 seconds of each minute at first and 90 seconds of two at last. Meanwhile the service needs more.
    choice, samples = random.Random(7), []
    for seconds in range(0, 1200, 2):
        imports = seconds % 60 < 9 if seconds < 600 else seconds % 120 < 90
        size = 150 + 1.5 * growth * seconds / 600 + choice.expovariate(0.5)
        samples.append(MemorySample(seconds, 3, size + (12 if imports else 0), 80.0 if imports else 0.0))
    trend = fit_trend(period_floors(samples))
    assert trend.slope * 600 / 1.5 == pytest.approx(growth, abs=0.2)
    assert trend.at(600) == pytest.approx(150 + 1.5 * growth, abs=1)


def test_one_leap_of_memory_is_no_growth() -> None:
    samples = [MemorySample(seconds, 3, 150.0 if seconds < 1000 else 160.0, 0.0) for seconds in range(0, 1200, 2)]
    assert fit_trend(period_floors(samples)).slope == 0


def test_memory_beside_imports_counts_if_there_is_no_other() -> None:
    samples = [MemorySample(2.0 * number, 3, 150.0, 80.0) for number in range(100)]
    assert fit_trend(period_floors(samples)).at(100) == 150
    assert period_floors(samples[:1]) == [(0, 150)]


def test_memory_of_imports_is_measured_apart() -> None:
    program = """
import subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
children = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
print(flush=True)
sys.stdin.read()
for child in children:
    child.kill()
    child.wait()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        sample = measure_memory(process.pid, 3.0)
        process.communicate()
    assert (sample.seconds, sample.processes) == (3, 2)
    assert sample.serving > sample.others > 0


def test_map_of_a_store_is_no_memory_of_the_service(tmp_path: Path) -> None:
    program = """
import mmap, sys
with open(sys.argv[1], "wb") as file:
    file.truncate(60 << 20)
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
    print(sum(pages[::4096]), flush=True)
    sys.stdin.read()
"""
    sizes = []
    for name in ("chalk.db", "other"):
        command = [sys.executable, "-c", program, str(tmp_path / name)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            sizes.append(measure_memory(process.pid, 0).serving)
            process.communicate()
    assert sizes[0] + 50 < sizes[1]


def test_missed_comparison_is_reported() -> None:
    figures = [Figure("comparison.datasette.page", 4.9, ""), Figure("comparison.datasette.page.one", 4.9, "no target")]
    figures += [Figure("soak.slope", 1.1, ""), Figure("comparison.baseline.p99", 2.5, "just met")]
    assert [line.partition(" ")[0] for line in missed_targets(figures)] == ["comparison.datasette.page", "soak.slope"]
