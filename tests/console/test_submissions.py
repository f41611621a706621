"""Submissions: each is claimed once, in any number of threads and processes."""

from __future__ import annotations

import threading
import time

import pytest

from backends import CONTROL, Backend
from chalk_flask.console.submissions import COLLECTION, MAX_AGE_SECONDS, SubmissionStore, new_submission_id


@pytest.mark.every_backend
def test_submission_is_claimed_once(store: Backend) -> None:
    submission_id = new_submission_id()
    assert SubmissionStore(store).claim(submission_id)
    assert not SubmissionStore(store).claim(submission_id)


def test_concurrent_requests_claim_once(store: Backend) -> None:
    submission_id, claims = new_submission_id(), []
    threads = [
        threading.Thread(target=lambda: claims.append(SubmissionStore(store).claim(submission_id))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claims) == [False] * 7 + [True]


def test_later_request_waits_for_the_page_of_the_first(store: Backend) -> None:
    submission_id, forms = new_submission_id(), SubmissionStore(store)
    forms.claim(submission_id)
    timer = threading.Timer(0.1, lambda: forms.complete(submission_id, "/imports/1"))
    timer.start()
    assert forms.wait_for_location(submission_id) == "/imports/1"
    timer.join()


def test_submission_that_changed_nothing_can_be_repeated(store: Backend) -> None:
    submission_id, forms = new_submission_id(), SubmissionStore(store)
    forms.claim(submission_id)
    forms.complete(submission_id, None)
    assert forms.wait_for_location(submission_id) is None
    assert forms.claim(submission_id)


@pytest.mark.parametrize(
    "invalid", ["x", "0" * 500, "g" * 42, "06b0b825a-166cce4059805dd42b05b17706545f1", "\u0661" * 9 + "-" + "0" * 32]
)
def test_invalid_id_is_never_claimed(invalid: str, store: Backend) -> None:
    assert not SubmissionStore(store).claim(invalid)


def test_old_submissions_are_deleted_and_not_accepted(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    forms, old = SubmissionStore(store), new_submission_id()
    forms.claim(old)
    later = time.time() + MAX_AGE_SECONDS + 10
    monkeypatch.setattr("chalk_flask.console.submissions.time.time", lambda: later)
    assert forms.claim(new_submission_id())
    with store.read(CONTROL) as snapshot:
        assert list(snapshot.keys(COLLECTION)) != []
        assert old not in list(snapshot.keys(COLLECTION))
    assert not forms.claim(old)


def test_submission_of_the_future_is_not_accepted(store: Backend) -> None:
    assert not SubmissionStore(store).claim("f" * 9 + "-" + "0" * 32)
    assert not list_keys(store)


def list_keys(store: Backend) -> list[str]:
    with store.read(CONTROL) as control:
        return list(control.keys(COLLECTION))
