"""Copies that start with a full read and apply all events, compared with a new full read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import pytest
from flask import Flask

from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.outbox.event import ENTITIES
from tests.outbox.conftest import clear_outbox, sent_changes, subscribe
from tests.support.api_client import Consumer
from tests.support.histories import RandomChanges, read_all

ROUNDS = 6
"""Rounds of random changes for each seed."""

Copy: TypeAlias = dict[tuple[str, str], Any]

TIMESTAMP = "dateLastModified"
EXCLUDED = ("givenName", "title")


def apply_changes(copy: Copy, changes: list[dict[str, Any]]) -> Copy:
    """Return the copy after the changes, each applied according to its action."""
    copy = dict(copy)
    for change in changes:
        place = RESOURCES[ENTITIES[change["entity_type"]]].singular_name, change["sourced_id"]
        active = place in copy and copy[place]["status"] == "active"
        assert active == (change["action"] != "created"), "the action fits the earlier changes"
        assert (change["entity"]["status"] == "active") == (change["action"] != "deleted")
        copy[place] = change["entity"]
    return copy


def without_fields(copy: Copy, *names: str) -> Copy:
    return {place: {name: record[name] for name in record if name not in names} for place, record in copy.items()}


def without_tombstone_timestamps(copy: Copy) -> Copy:
    """Return the copy without the timestamps of deleted records, whose changes are not sent."""
    deleted = {place: record for place, record in copy.items() if record["status"] != "active"}
    return copy | without_fields(deleted, TIMESTAMP)


@pytest.mark.parametrize("seed", range(3))
def test_copy_from_events_equals_full_read(app: Flask, tmp_path: Path, seed: int) -> None:
    for mode in ("per_entity", "batched"):
        subscribe(app, mode, mode=mode, full=True, entities=list(ENTITIES))
        subscribe(app, f"without-{mode}", mode=mode, full=True, entities=list(ENTITIES), excluded=list(EXCLUDED))
    subscribe(app, "thin", entities=list(ENTITIES))
    history, consumer = RandomChanges(app, tmp_path, seed), Consumer(app)
    for _ in range(ROUNDS):
        before = read_all(consumer)
        for _ in range(history.random.randrange(1, 5)):
            history.step()
        after = read_all(consumer)
        assert without_tombstone_timestamps(
            apply_changes(before, sent_changes(app, "per_entity"))
        ) == without_tombstone_timestamps(after)
        assert without_tombstone_timestamps(
            apply_changes(before, sent_changes(app, "batched"))
        ) == without_tombstone_timestamps(after)
        # A change of excluded fields and the timestamp alone is not sent.
        ignored = (*EXCLUDED, TIMESTAMP)
        for mode in ("per_entity", "batched"):
            assert without_fields(
                apply_changes(before, sent_changes(app, f"without-{mode}")), *ignored
            ) == without_fields(after, *ignored)
        moved = {
            place
            for place, record in without_fields(after, TIMESTAMP).items()
            if record != without_fields(before, TIMESTAMP).get(place)
        }
        reported = {
            (RESOURCES[ENTITIES[change["entity_type"]]].singular_name, change["sourced_id"])
            for change in sent_changes(app, "thin")
        }
        assert moved <= reported
        clear_outbox(app)
