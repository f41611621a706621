"""Journal of attempt results: it survives the end of the process, and its results are stored once."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

from backends import Backend
from chalk_flask.outbox import Attempt
from chalk_flask.webhooks.delivery import journal as journal_module
from chalk_flask.webhooks.delivery.journal import ResultJournal
from chalk_flask.webhooks.delivery.recorder import Recorder
from chalk_flask.webhooks.delivery.result import AttemptResult
from chalk_flask.webhooks.delivery.retry_policy import RetryPolicy
from tests.support.deliveries import TENANT, add_webhook, list_deliveries, queue_events


def make_result(key: str = "1", event: str = "evt-1", *, delivered: bool = True) -> AttemptResult:
    attempt = Attempt("2026-09-01T08:00:00.000Z", 7, 200 if delivered else 500, None, 'ok "é"\n')
    return AttemptResult(TENANT, "wh-1", key, event, attempt, 1_788_000_000.5, delivered, retry_after=None)


def test_results_are_read_back_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "data" / "webhooks.results"
    journal, results = ResultJournal(path), [make_result("1"), make_result("2", delivered=False)]
    assert journal.read() == []
    for result in results:
        journal.append(result)
    assert ResultJournal(path).read() == results
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(path.read_bytes()[:-20])
    assert ResultJournal(path).read() == results[:1], "the process was killed while it wrote the last line"


def test_stored_results_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = ResultJournal(tmp_path / "results")
    journal.append(make_result("1"))
    journal.append(make_result("2"))
    journal.remove_stored([make_result("2")])
    assert len(journal.read()) == 2, "a small file is not written again"
    monkeypatch.setattr(journal_module, "MAX_BYTES", 10)
    journal.remove_stored([make_result("2")])
    assert journal.read() == [make_result("2")]
    journal.append(make_result("3"))
    assert journal.read() == [make_result("2"), make_result("3")]
    journal.remove_stored([])
    assert journal.read() == []
    journal.append(make_result("4"))
    assert journal.read() == [make_result("4")]
    journal.clear()
    assert not (tmp_path / "results").exists()


def test_failure_of_the_disk_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    journal = ResultJournal(tmp_path / "file" / "results")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            journal.append(make_result())
    [record] = caplog.records
    assert "results of webhook deliveries are kept in memory only" in record.getMessage()


@pytest.mark.every_backend
def test_recovered_results_are_stored_once(store: Backend, tmp_path: Path) -> None:
    add_webhook(store, tmp_path, "http://127.0.0.1/")
    events = queue_events(store, 3)
    keys = [delivery.key for delivery in list_deliveries(store)]
    path = tmp_path / "results"
    for _ in range(2):  # the second process was killed before it removed what is in the store
        journal = ResultJournal(path)
        journal.append(make_result(keys[0], events[0]))
        journal.append(make_result(keys[1], events[1], delivered=False))
        journal.append(make_result(keys[2], "evt-of-another-store"))
        journal.close()
        Recorder(store, RetryPolicy(), ResultJournal(path)).recover()
        delivered, failed, other = list_deliveries(store)
        assert (delivered.state, len(delivered.attempts)) == ("delivered", 1)
        assert (failed.state, failed.tries, len(failed.attempts)) == ("pending", 1, 1)
        assert (other.state, other.attempts) == ("pending", ())
        assert not path.exists()
