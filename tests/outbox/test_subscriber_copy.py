"""A receiver who began with a full read and applies what it is told ends with what a new full read gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import pytest
from flask import Flask

from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.outbox.event import ENTITIES
from tests.outbox.conftest import changes, forget, subscribe
from tests.support.api_client import Consumer
from tests.support.histories import History, everything

HISTORIES = 6
"""For each of four seeds on each of three backends: 72 in all, each for four receivers."""

Copy: TypeAlias = dict[tuple[str, str], Any]

STAMP = "dateLastModified"
EXCLUDED = ("givenName", "title")


def applied(copy: Copy, told: list[dict[str, Any]]) -> Copy:
    """The copy after changes in their order, each as its action says."""
    copy = dict(copy)
    for each in told:
        place = RESOURCES[ENTITIES[each["entity_type"]]].singular_name, each["sourced_id"]
        active = place in copy and copy[place]["status"] == "active"
        assert active == (each["action"] != "created"), "what is told fits what was told before"
        assert (each["entity"]["status"] == "active") == (each["action"] != "deleted")
        copy[place] = each["entity"]
    return copy


def without(copy: Copy, *names: str) -> Copy:
    return {place: {name: record[name] for name in record if name not in names} for place, record in copy.items()}


def settled(copy: Copy) -> Copy:
    """The copy without the stamps of what is deleted: that they move is told to nobody."""
    deleted = {place: record for place, record in copy.items() if record["status"] != "active"}
    return copy | without(deleted, STAMP)


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_that_is_told_everything_ends_as_a_full_read(app: Flask, tmp_path: Path, seed: int) -> None:
    for mode in ("per_entity", "batched"):
        subscribe(app, mode, mode=mode, full=True, entities=list(ENTITIES))
        subscribe(app, f"without-{mode}", mode=mode, full=True, entities=list(ENTITIES), excluded=list(EXCLUDED))
    subscribe(app, "thin", entities=list(ENTITIES))
    history, consumer = History(app, tmp_path, seed), Consumer(app)
    for _ in range(HISTORIES):
        before = everything(consumer)
        for _ in range(history.draw.randrange(1, 5)):
            history.step()
        after = everything(consumer)
        assert settled(applied(before, changes(app, "per_entity"))) == settled(after)
        assert settled(applied(before, changes(app, "batched"))) == settled(after)
        # Whoever left fields out is not told of a stamp that moved with them alone.
        leave = (*EXCLUDED, STAMP)
        for mode in ("per_entity", "batched"):
            assert without(applied(before, changes(app, f"without-{mode}")), *leave) == without(after, *leave)
        moved = {
            place
            for place, record in without(after, leave[-1]).items()
            if record != without(before, leave[-1]).get(place)
        }
        told = {
            (RESOURCES[ENTITIES[each["entity_type"]]].singular_name, each["sourced_id"])
            for each in changes(app, "thin")
        }
        assert moved <= told
        forget(app)
