"""Default categories and grading periods of line items."""

from __future__ import annotations

import pytest

from backends import Backend
from chalk_flask.roster.integrity.checker import check_store
from tests.roster.conftest import Load
from tests.roster.gradebook.conftest import ITEM_WITHOUT_DEFAULTS, delete, get, note_keys, put
from tests.support.packages import PackageBuilder


@pytest.mark.every_backend
@pytest.mark.reading("W-07")
def test_default_category_is_created_once(roster: Backend) -> None:
    for key in ("a", "b"):
        put(roster, "lineItems", key, ITEM_WITHOUT_DEFAULTS)
        assert get(roster, "lineItems", key)["category"]["sourcedId"] == "uncategorized"
    assert get(roster, "categories", "uncategorized")["title"] == "Uncategorized"
    assert note_keys(roster) == {"categories/uncategorized", "lineItems/a", "lineItems/b"}
    for key in ("a", "b"):
        delete(roster, "lineItems", key)
    delete(roster, "categories", "uncategorized")
    put(roster, "lineItems", "c", ITEM_WITHOUT_DEFAULTS)
    assert get(roster, "categories", "uncategorized")["status"] == "active"


@pytest.mark.reading("W-07")
def test_default_category_is_first_not_tied_to_another_class(roster: Backend) -> None:
    put(roster, "categories", "a", {"title": "Uncategorized", "metadata": {"classId": "class-2"}})
    put(roster, "categories", "c", {"title": "Uncategorized"})
    put(roster, "categories", "b", {"title": "uncategorized", "metadata": {"classId": "class-1"}})
    put(roster, "lineItems", "i", ITEM_WITHOUT_DEFAULTS)
    put(roster, "lineItems", "j", {**ITEM_WITHOUT_DEFAULTS, "class": {"sourcedId": "class-2"}})
    assert get(roster, "lineItems", "i")["category"]["sourcedId"] == "b"
    assert get(roster, "lineItems", "j")["category"]["sourcedId"] == "a"


@pytest.mark.reading("W-07")
def test_default_category_gets_another_id_if_its_id_is_taken(roster: Backend) -> None:
    put(roster, "categories", "uncategorized", {"title": "Ours"})
    put(roster, "lineItems", "i", ITEM_WITHOUT_DEFAULTS)
    key = get(roster, "lineItems", "i")["category"]["sourcedId"]
    assert get(roster, "categories", key)["title"] == "Uncategorized"
    assert get(roster, "categories", "uncategorized")["title"] == "Ours"


def session(key: str, kind: str, start: str, end: str, parent: str) -> dict[str, str]:
    return {
        "sourcedId": key,
        "title": key,
        "type": kind,
        "startDate": start,
        "endDate": end,
        "parentSourcedId": parent,
        "schoolYear": "2027",
    }


@pytest.mark.every_backend
@pytest.mark.reading("W-07")
@pytest.mark.parametrize(("due", "period"), [("2026-10-01", "q-1"), ("2026-12-01", "q-2"), ("2027-02-01", None)])
def test_default_grading_period_of_a_semester_may_hang_below_the_year(
    store: Backend, load: Load, due: str, period: str | None
) -> None:
    package = PackageBuilder()
    package.rows["academicSessions"] += [
        session("semester-1", "semester", "2026-08-17", "2027-01-15", "year-1"),
        session("q-1", "gradingPeriod", "2026-08-17", "2026-11-01", "year-1"),
        session("q-2", "gradingPeriod", "2026-11-01", "2027-01-15", "year-1"),
        session("q-3", "gradingPeriod", "2027-01-15", "2027-06-12", "year-1"),
    ]
    package.set("classes", "class-1", termSourcedIds="semester-1")
    load(store, package)
    put(store, "lineItems", "i", {**ITEM_WITHOUT_DEFAULTS, "dueDate": due})
    assert get(store, "lineItems", "i").get("gradingPeriod", {}).get("sourcedId") == period


@pytest.mark.reading("W-07")
@pytest.mark.parametrize(
    ("due", "period"),
    [
        ("2026-08-31T23:59:59Z", "p-1"),
        ("2026-09-01", "p-2"),
        ("2026-09-08T01:00:00+02:00", "p-2a"),
        ("2026-09-30T23:00:00-02:00", None),
        ("2026-12-24", None),
        ("2027-03-01", None),
    ],
)
def test_default_grading_period_is_shortest_around_due_date(
    store: Backend, load: Load, due: str, period: str | None
) -> None:
    package = PackageBuilder()
    package.rows["academicSessions"] += [
        session("p-1", "gradingPeriod", "2026-08-17", "2026-09-01", "term-1"),
        session("s-1", "semester", "2026-08-17", "2026-10-01", "term-1"),
        session("p-2", "gradingPeriod", "2026-09-01", "2026-10-01", "s-1"),
        session("p-2b", "gradingPeriod", "2026-09-05", "2026-10-01", "p-2"),
        session("p-2a", "gradingPeriod", "2026-09-05", "2026-09-09", "p-2"),
        session("term-2", "term", "2027-01-01", "2027-06-12", "year-1"),
        session("p-3", "gradingPeriod", "2027-01-01", "2027-06-12", "term-2"),
    ]
    package.drop("academicSessions", "period-1").set("lineItems", "item-1", gradingPeriodSourcedId="p-1")
    load(store, package)
    put(store, "lineItems", "i", {**ITEM_WITHOUT_DEFAULTS, "dueDate": due})
    assert get(store, "lineItems", "i").get("gradingPeriod", {}).get("sourcedId") == period
    assert check_store(store).problems == []
