"""Administrator of the current request as a member of audit events."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends import Backend
from chalk_flask.audit.actor import set_actor
from chalk_flask.audit.events import read_events, record_event


@pytest.fixture
def actor() -> Iterator[str]:
    set_actor("5f0c")
    yield "5f0c"
    set_actor(None)


def test_events_of_a_request_name_its_administrator(store: Backend, actor: str) -> None:
    with store.write("default") as transaction:
        record_event(transaction, "default", "token.created", id="one")
        record_event(transaction, "default", "import.approved", by="someone else")
        record_event(transaction, "default", "session.ended", administrator="other")
    events = {entry["event"]: entry.get("by") for entry in read_events(store, "default")}
    assert events == {"token.created": actor, "import.approved": "someone else", "session.ended": None}


def test_events_without_a_request_name_no_administrator(store: Backend) -> None:
    with store.write("default") as transaction:
        record_event(transaction, "default", "token.created", id="one")
    assert [entry.get("by") for entry in read_events(store, "default")] == [None]
