"""Counter of requests: exact with many threads, in files that processes share, and in forked processes."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from chalk_flask.metrics.request_counter import REQUEST_METRICS, RequestCounter
from chalk_flask.metrics.value_storage import LocalSampleValues, SampleValueStore, SharedSampleValues
from tests.support.metrics import parse_samples

THREADS, ROUNDS = 8, 45
PADDING = "x" * 1600


def rendered(folder: Path, values: SampleValueStore) -> dict[tuple[str, ...], float]:
    """Return the samples of this process, or of all files in the folder."""
    registry = CollectorRegistry()
    if isinstance(values, LocalSampleValues):
        registry.register(values)
    else:
        MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]  # the library types it in part
    return parse_samples(generate_latest(registry).decode())


def open_values(kind: str, folder: Path) -> SampleValueStore:
    return LocalSampleValues(*REQUEST_METRICS) if kind == "local" else SharedSampleValues(folder)


@pytest.mark.parametrize("kind", ["local", "shared"])
def test_no_request_of_many_threads_is_lost(kind: str, tmp_path: Path) -> None:
    values = open_values(kind, tmp_path)
    counter = RequestCounter(values)

    def record(thread: int) -> None:
        for number in range(ROUNDS):
            # New routes appear while others are counted, and fill more than the first megabyte of a shared file.
            counter.record("GET", f"/users/{number}/{PADDING}", 200 + thread % 2, 0.001 * thread)
            counter.record("GET", "/stream", 200, 0.5, True)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(record, range(THREADS)))
    found = rendered(tmp_path, values)
    totals = {key: value for key, value in found.items() if key[0] == "chalk_requests_total"}
    durations = {key: value for key, value in found.items() if key[0] == "chalk_request_seconds_count"}
    assert sum(totals.values()) == 2 * THREADS * ROUNDS
    assert len(totals) == 2 * ROUNDS + 1
    assert set(durations.values()) == {THREADS}
    assert found["chalk_stream_seconds_count", "/stream"] == THREADS * ROUNDS
    assert found["chalk_stream_seconds_sum", "/stream"] == THREADS * ROUNDS * 0.5
    route = f"/users/0/{PADDING}"
    bucket = {
        key[1]: value for key, value in found.items() if key[0].endswith("request_seconds_bucket") and route in key
    }
    assert (bucket["0.001"], bucket["0.0025"], bucket["0.005"], bucket["+Inf"]) == (2, 3, 6, 8)


def test_shared_values_continue_those_of_a_former_process(tmp_path: Path) -> None:
    for start in range(3):
        counter = RequestCounter(values := SharedSampleValues(tmp_path))
        counter.record("GET", "/users", 200, 0.2)
        for number in range(25):  # after the second start the file has more than a megabyte
            counter.record("GET", f"/users/{start}/{number}/{PADDING}", 200, 0.2)
    found = rendered(tmp_path, values)
    assert found["chalk_requests_total", "GET", "/users", "200"] == 3
    assert found["chalk_request_seconds_count", "GET", f"/users/2/24/{PADDING}"] == 1


def test_forked_process_has_files_of_its_own(tmp_path: Path) -> None:
    values = SharedSampleValues(tmp_path)
    counter = RequestCounter(values)
    counter.record("GET", "/users", 200, 0.2)
    with counter._lock:  # as another thread of this process could hold it
        child = multiprocessing.get_context("fork").Process(target=counter.record, args=("GET", "/users", 200, 0.2))
        child.start()
        child.join()
    counter.record("GET", "/users", 200, 0.2)
    assert child.exitcode == 0
    assert len(list(tmp_path.glob("counter_*.db"))) == 2
    assert rendered(tmp_path, values)["chalk_requests_total", "GET", "/users", "200"] == 3


def test_missing_folder_is_logged_once_and_requests_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counter = RequestCounter(SharedSampleValues(tmp_path / "missing"))
    for status in (200, 404):
        counter.record("GET", "/users", status, 0.2)
    assert caplog.text.count("requests are not counted") == 1
