"""Submissions: each begins once, in any number of threads and processes."""

from __future__ import annotations

import threading
import time

import pytest

from backends import CONTROL, Backend
from chalk_flask.console.submissions import (
    COLLECTION,
    MAX_AGE_SECONDS,
    SubmissionError,
    SubmissionStore,
    new_submission_id,
)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.console.submissions.MAX_WAIT_SECONDS", 60.0)  # on a busy machine too


@pytest.mark.every_backend
def test_submission_begins_once(store: Backend) -> None:
    submission_id = new_submission_id()
    assert SubmissionStore(store).begin_or_wait(submission_id) is None
    SubmissionStore(store).complete(submission_id, "/imports/1")
    assert SubmissionStore(store).begin_or_wait(submission_id) == "/imports/1"


def test_concurrent_requests_begin_once(store: Backend) -> None:
    submission_id, results = new_submission_id(), []

    def send() -> None:
        results.append(SubmissionStore(store).begin_or_wait(submission_id))
        if results[-1] is None:
            SubmissionStore(store).complete(submission_id, "/imports/1")

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(None) == 1
    assert results.count("/imports/1") == 7


def test_later_request_waits_for_the_page_of_the_first(store: Backend) -> None:
    submission_id, forms = new_submission_id(), SubmissionStore(store)
    forms.begin_or_wait(submission_id)
    timer = threading.Timer(0.1, lambda: forms.complete(submission_id, "/imports/1"))
    timer.start()
    assert forms.begin_or_wait(submission_id) == "/imports/1"
    timer.join()


def test_later_request_is_processed_if_the_first_changed_nothing(store: Backend) -> None:
    submission_id, forms = new_submission_id(), SubmissionStore(store)
    forms.begin_or_wait(submission_id)
    timer = threading.Timer(0.1, lambda: forms.complete(submission_id, None))
    timer.start()
    assert forms.begin_or_wait(submission_id) is None
    timer.join()


def test_later_request_does_not_wait_without_end(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.console.submissions.MAX_WAIT_SECONDS", 0.1)
    submission_id, forms = new_submission_id(), SubmissionStore(store)
    forms.begin_or_wait(submission_id)
    with pytest.raises(SubmissionError, match="still in progress"):
        forms.begin_or_wait(submission_id)


@pytest.mark.parametrize(
    "invalid", ["x", "0" * 500, "g" * 42, "06b0b825a-166cce4059805dd42b05b17706545f1", "\u0661" * 9 + "-" + "0" * 32]
)
def test_invalid_id_never_begins(invalid: str, store: Backend) -> None:
    with pytest.raises(SubmissionError, match="too old"):
        SubmissionStore(store).begin_or_wait(invalid)
    assert not list_keys(store)


def test_old_submissions_are_deleted_and_not_accepted(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    forms, old = SubmissionStore(store), new_submission_id()
    forms.begin_or_wait(old)
    later = time.time() + MAX_AGE_SECONDS + 10
    monkeypatch.setattr("chalk_flask.console.submissions.time.time", lambda: later)
    assert forms.begin_or_wait(new_submission_id()) is None
    with store.read(CONTROL) as snapshot:
        assert list(snapshot.keys(COLLECTION)) != []
        assert old not in list(snapshot.keys(COLLECTION))
    with pytest.raises(SubmissionError, match="too old"):
        forms.begin_or_wait(old)


def test_submission_of_the_future_is_not_accepted(store: Backend) -> None:
    with pytest.raises(SubmissionError):
        SubmissionStore(store).begin_or_wait("f" * 9 + "-" + "0" * 32)
    assert not list_keys(store)


def list_keys(store: Backend) -> list[str]:
    with store.read(CONTROL) as control:
        return list(control.keys(COLLECTION))
