"""Log events of failed attempts: without URLs and texts of the receiver."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from backends import Backend
from tests.support.deliveries import (
    add_webhook,
    get_webhook,
    http_response,
    list_deliveries,
    queue_events,
    running_worker,
    wait_until,
)
from tests.support.receiver import respond, run_receiver

pytestmark = pytest.mark.slow


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, dict[str, Any]]]:
    """Return name, level and members of each logged event."""
    return [
        (record.__dict__["event"], record.levelno, record.__dict__["members"])
        for record in caplog.records
        if hasattr(record, "event")
    ]


def test_failed_attempts_and_their_end_are_logged(
    store: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with run_receiver(respond(http_response(500, body="canary"))) as receiver, running_worker(store, tmp_path):
        add_webhook(store, tmp_path, f"{receiver.url}?key=canary")
        [event_id] = queue_events(store, 1)
        wait_until(lambda: list_deliveries(store)[0].state == "failed")
        wait_until(lambda: len(events(caplog)) == 4)
    found = events(caplog)
    names = [(name, level) for name, level, _ in found]
    assert names == [("webhook.failed", logging.WARNING)] * 3 + [("webhook.given_up", logging.ERROR)]
    ids = {"tenant": "default", "webhook": "wh-1", "delivery": event_id}
    assert found[0][2].pop("ms") >= 0
    assert found[0][2] == {**ids, "status": 500, "reason": "the receiver answered 500"}
    assert found[3][2] == {**ids, "attempts": 3}
    assert "canary" not in caplog.text + str(found)


def test_disabled_webhook_is_logged(store: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with run_receiver(respond(http_response(410))) as receiver, running_worker(store, tmp_path):
        add_webhook(store, tmp_path, receiver.url)
        queue_events(store, 1)
        wait_until(lambda: get_webhook(store).state == "disabled")
        wait_until(lambda: len(events(caplog)) == 2)
    name, level, members = events(caplog)[1]
    assert (name, level) == ("webhook.disabled", logging.ERROR)
    assert members == {"tenant": "default", "webhook": "wh-1", "reason": "the endpoint answered 410 Gone"}
