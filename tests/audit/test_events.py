"""Audit events: content, order and transactions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backends import Backend
from chalk_flask.audit.events import EVENTS, read_events, record_event
from chalk_flask.times import format_precise_timestamp

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)


@pytest.mark.every_backend
def test_event_contains_time_tenant_name_and_members(store: Backend) -> None:
    with store.write("default") as transaction:
        record_event(
            transaction, "default", "token.created", MORNING, id="5f0c", label="Reading app", scopes=["a", "b"]
        )
    assert list(read_events(store, "default")) == [
        {
            "time": "2031-05-02T08:00:00.000000Z",
            "tenant": "default",
            "event": "token.created",
            "id": "5f0c",
            "label": "Reading app",
            "scopes": ["a", "b"],
        }
    ]


def test_unknown_event_is_rejected(store: Backend) -> None:
    with (
        pytest.raises(ValueError, match=r"unknown audit event 'token\.eaten'; the events are "),
        store.write("default") as transaction,
    ):
        record_event(transaction, "default", "token.eaten")
    assert list(read_events(store, "default")) == []


def test_read_events_returns_all_pages_in_order_from_a_time_on(store: Backend) -> None:
    times = [MORNING + timedelta(seconds=seconds) for seconds in range(1203)]
    with store.write("default") as transaction:
        for number, time in enumerate(times):
            record_event(transaction, "default", "gradebook.put", time, number=number)
    assert [event["number"] for event in read_events(store, "default")] == list(range(1203))
    since = format_precise_timestamp(times[1200])
    assert [event["number"] for event in read_events(store, "default", since)] == [1200, 1201, 1202]


def test_events_of_the_same_time_are_all_stored(store: Backend) -> None:
    with store.write("default") as transaction:
        for _ in range(20):
            record_event(transaction, "default", "gradebook.put", MORNING)
    assert len(list(read_events(store, "default"))) == 20


def test_event_is_rolled_back_with_its_transaction(store: Backend) -> None:
    with pytest.raises(KeyError), store.write("default") as transaction:
        record_event(transaction, "default", "import.committed", rows=3)
        raise KeyError
    assert list(read_events(store, "default")) == []


def test_events_do_not_change_the_revision(store: Backend) -> None:
    with store.read("default") as snapshot:
        before = snapshot.revision
    with store.write("default") as transaction:
        record_event(transaction, "default", "import.committed")
    with store.read("default") as snapshot:
        assert snapshot.revision == before


def test_event_names_begin_with_what_changed() -> None:
    assert {event.split(".")[0] for event in EVENTS} == {
        "token", "client", "issuer", "tenant", "import", "gradebook", "demographics", "login", "webhook",
        "administrator", "session", "sign_in", "job", "backup", "store", "source", "secrets",
    }  # fmt: skip
