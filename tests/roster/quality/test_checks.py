"""Data quality checks: the records that each one finds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends import Backend
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.quality import CHECKS, checks
from tests.support.small_roster import DELETED, Row, class_, enrollment, fill, user


def found_by(store: Backend) -> dict[str, list[str]]:
    """Return the ids that each check finds."""
    with store.read("default") as snapshot:
        return {check.id: list(check.find_ids(snapshot)) for check in CHECKS}


def put(store: Backend, **rows: list[Row]) -> None:
    with store.write("default") as transaction:
        for name, some in rows.items():
            transaction.put(name, [FILES[name].record(row) for row in some])


@pytest.mark.every_backend
@pytest.mark.parametrize("size", [500, 2])
def test_checks_find_the_records_that_need_attention(
    store: Backend, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "BATCH_SIZE", size)
    monkeypatch.setattr(checks, "RANGE_SIZE", size)
    fill(store)
    put(
        store,
        users=[
            user("u-10", "student", "Jo", "Kim", ["s-1"], email="U-1@North.example"),
            user("u-11", "student", "No", "Mail", ["s-1"], email=""),
            user("u-12", "guardian", "No", "Org", ["s-9"]),
            user("u-13", "student", "Gone", "Shared", ["s-1"], email="u-2@north.example", **DELETED),
        ],
        classes=[class_("c-5", "k-1", "s-1", ["t-1"])],
        enrollments=[
            enrollment("e-20", "c-5", "s-1", "u-8", "student"),
            enrollment("e-21", "c-9", "s-1", "u-4", "teacher"),
            enrollment("e-22", "c-5", "s-1", "u-9", "teacher", **DELETED),
        ],
    )
    assert found_by(store) == {
        "users-without-email": ["u-11"],
        "shared-emails": ["u-1", "u-10"],
        "users-without-enrollment": ["u-10", "u-11"],
        "users-without-org": ["u-12"],
        "classes-without-teacher": ["c-4", "c-5"],
        "classes-without-students": ["c-4"],
        "enrollments-of-deleted-users": ["e-20"],
        "enrollments-in-deleted-classes": ["e-21"],
    }


def test_empty_roster_needs_no_attention(store: Backend) -> None:
    assert set(map(tuple, found_by(store).values())) == {()}


def test_every_address_that_people_share_is_found(store: Backend) -> None:
    addresses: Iterator[str] = iter("abbcdddefff")
    put(store, users=[user(f"u-{n:02}", "aide", "A", "B", ["s-1"], email=f"{a}@x") for n, a in enumerate(addresses)])
    assert found_by(store)["shared-emails"] == [f"u-{n:02}" for n in (1, 2, 4, 5, 6, 8, 9, 10)]


def test_checks_have_different_ids_and_existing_collections() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert {check.collection for check in CHECKS} <= FILES.keys()
