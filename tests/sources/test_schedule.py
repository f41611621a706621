"""Schedule of syncs: when the next one is due, also after failures."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from chalk_flask.sources import Source, SourceError, SyncSchedule, next_sync
from chalk_flask.sources.schedule import describe_schedule
from chalk_flask.tenants import TenantStore
from tests.sources.conftest import Puller

URL = "https://sis.example.org/v1p1"


def source(**members: object) -> Source:
    values = {"name": "sis", "tenant": "default", "url": URL, "auth": "bearer", "sealed": ""}
    return Source.from_dict({**values, "created": "2026-09-01T08:00:00.000Z", **members})


@pytest.mark.parametrize(
    ("members", "due"),
    [
        ({}, None),
        ({"every_seconds": 3600}, "2026-09-01T08:00Z"),
        ({"every_seconds": 3600, "last_started": "2026-09-03T10:00:00.000Z"}, "2026-09-03T11:00Z"),
        ({"at": "02:30"}, "2026-09-02T02:30Z"),
        ({"at": "08:30"}, "2026-09-01T08:30Z"),
        ({"at": "02:30", "last_started": "2026-09-03T02:30:00.000Z"}, "2026-09-04T02:30Z"),
        ({"at": "02:30", "last_started": "2026-09-03T02:29:59.000Z"}, "2026-09-03T02:30Z"),
    ],
)
def test_next_sync_follows_the_schedule(members: dict[str, object], due: str | None) -> None:
    assert next_sync(source(**members)) == (due and datetime.fromisoformat(due))


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({}, "only by hand"),
        ({"at": "02:30"}, "every day at 02:30 UTC"),
        ({"every_seconds": 5400}, "every 90 minutes"),
        ({"every_seconds": 3600}, "every hour"),
        ({"every_seconds": 86400}, "every 24 hours"),
    ],
)
def test_schedule_is_described_in_words(members: dict[str, object], text: str) -> None:
    assert describe_schedule(source(**members)) == text


@pytest.mark.parametrize(("failures", "minutes"), [(1, 15), (2, 30), (3, 60), (5, 240), (6, 360), (99, 360)])
def test_failed_sync_is_repeated_in_growing_intervals(failures: int, minutes: int) -> None:
    failed = "2026-09-03T02:31:00.000Z"
    found = next_sync(
        source(at="02:30", last_started="2026-09-03T02:30:00.000Z", last_failure=failed, failures=failures)
    )
    assert found == datetime.fromisoformat(failed) + timedelta(minutes=minutes)


def test_regular_sync_comes_before_a_later_retry() -> None:
    members = {"every_seconds": 600, "last_started": "2026-09-03T02:30:00.000Z"}
    found = next_sync(source(**members, last_failure="2026-09-03T02:31:00.000Z", failures=1))
    assert found == datetime.fromisoformat("2026-09-03T02:40Z")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"every": timedelta(minutes=4)}, "at least 5 minutes"),
        ({"at": "24:00"}, "'24:00' is not a time of day"),
        ({"at": "2:3"}, "'2:3' is not a time of day"),
        ({"at": "02:30", "every": timedelta(hours=1)}, "give one of them"),
    ],
)
def test_invalid_schedule_is_rejected(puller: Puller, members: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        puller.add(URL, **members)


def test_due_sources_of_all_tenants_are_found_after_each_change(puller: Puller) -> None:
    schedule = SyncSchedule(puller.store)
    TenantStore(puller.store).create("north")
    assert schedule.due(puller.clock()) == []
    puller.add(URL, every=timedelta(hours=1))
    puller.add(URL, name="manual")
    assert [each.name for each in schedule.due(puller.clock())] == ["sis"]
    puller.sources.record_failure("default", "sis", puller.clock(), "no answer")
    assert schedule.due(puller.clock()) == []
    puller.clock.advance(minutes=15)
    assert [each.name for each in schedule.due(puller.clock())] == ["sis"]
    puller.sources.remove("default", "sis")
    assert schedule.due(puller.clock()) == []
