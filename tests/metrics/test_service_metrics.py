"""Counters of a process: requests, streams and log messages; processes can share them in a folder."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chalk_flask.metrics import ServiceMetrics, counted_log_messages
from chalk_flask.metrics.service_metrics import prepare_folder
from chalk_flask.settings import SettingsError
from tests.support.metrics import parse_samples
from tests.support.paths import ROOT


def samples(metrics: ServiceMetrics) -> dict[tuple[str, ...], float]:
    """Return the values of samples by name and values of labels."""
    return parse_samples(metrics.render().decode())


def test_requests_are_counted_by_route_and_status() -> None:
    metrics = ServiceMetrics()
    for seconds in (0.002, 0.003, 20.0):
        metrics.requests.record("GET", "/users/{id}", 200, seconds)
    metrics.requests.record("GET", "/users/{id}", 404, 0.2)
    found = samples(metrics)
    assert found["chalk_requests_total", "GET", "/users/{id}", "200"] == 3
    assert found["chalk_requests_total", "GET", "/users/{id}", "404"] == 1
    assert found["chalk_request_seconds_count", "GET", "/users/{id}"] == 4
    assert found["chalk_request_seconds_sum", "GET", "/users/{id}"] == pytest.approx(20.205)
    assert found["chalk_request_seconds_bucket", "0.0025", "GET", "/users/{id}"] == 1
    assert found["chalk_request_seconds_bucket", "10.0", "GET", "/users/{id}"] == 3
    assert not [key for key in found if key[0].startswith("chalk_stream_seconds") or key[0].endswith("_created")]


def test_streams_have_a_histogram_of_their_own() -> None:
    metrics = ServiceMetrics()
    metrics.requests.record("GET", "/users", 200, 45.0, True)
    found = samples(metrics)
    assert found["chalk_requests_total", "GET", "/users", "200"] == 1
    assert found["chalk_stream_seconds_bucket", "60.0", "/users"] == 1
    assert ("chalk_request_seconds_count", "GET", "/users") not in found


def test_warnings_and_errors_are_counted_until_the_block_ends() -> None:
    metrics, log = ServiceMetrics(), logging.getLogger("chalk_flask.test")
    with counted_log_messages(metrics):
        log.warning("one")
        log.error("two")
        log.info("three")
    log.error("four")
    found = samples(metrics)
    assert found["chalk_log_messages_total", "warning"] == 1
    assert found["chalk_log_messages_total", "error"] == 1
    assert ("chalk_log_messages_total", "info") not in found


def test_applications_in_a_process_do_not_share_numbers() -> None:
    first, second = ServiceMetrics(), ServiceMetrics()
    first.requests.record("GET", "/users", 200, 0.1)
    assert not [key for key in samples(second) if key[0].startswith("chalk_requests")]


PROGRAM = """
import sys
from chalk_flask.metrics import ServiceMetrics
metrics = ServiceMetrics()
metrics.requests.record("GET", "/users", 200, 0.002)
metrics.streams("stream").inc()
print(metrics.render().decode(), flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_processes_share_their_numbers_in_a_folder(tmp_path: Path) -> None:
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command, pipe = [sys.executable, "-c", PROGRAM], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout is not None
        assert any(line.startswith("chalk_streams{") for line in first.stdout)
        second = subprocess.run(command, cwd=ROOT, env=environ, input="", capture_output=True, text=True, check=True)
        first.kill()
    found = parse_samples(second.stdout)
    assert found["chalk_requests_total", "GET", "/users", "200"] == 2
    assert found["chalk_request_seconds_count", "GET", "/users"] == 2
    assert found["chalk_streams", "stream"] == 2


FORKING_PROGRAM = """
import os
from chalk_flask.metrics import ServiceMetrics
metrics = ServiceMetrics()
if os.fork() == 0:
    metrics.streams("stream").inc()
    os._exit(0)
os.wait()
"""


@pytest.mark.slow
def test_files_of_a_forked_process_have_no_holes(tmp_path: Path) -> None:
    """A hole that cannot be filled, because the disk is full, would end the process."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", FORKING_PROGRAM], cwd=ROOT, env=environ, check=True)
    sizes = {path.name: (path.stat().st_blocks * 512, path.stat().st_size) for path in tmp_path.glob("*.db")}
    assert len([name for name in sizes if name.startswith("gauge_livesum")]) == 2
    assert [name for name, (allocated, size) in sizes.items() if allocated < size] == []


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        SettingsError, match=f"the folder {tmp_path}/file in PROMETHEUS_MULTIPROC_DIR cannot be written"
    ):
        prepare_folder(tmp_path / "file")
    assert prepare_folder(tmp_path / "missing" / "metrics").stat().st_mode & 0o777 == 0o700


def test_files_that_processes_share_are_private(tmp_path: Path) -> None:
    files = [*prepare_folder(tmp_path / "metrics").iterdir()]
    assert len(files) == 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
