"""Access policy: visible rows of each kind of restriction, redacted fields, filters and paths."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends import KEY, MATCH_ALL, MATCH_NONE, Backend, Compare, In, Not, Snapshot, Subquery, Where, open_store
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.policy import ROW_RULES, UNRESTRICTED, policy_for, policy_for_restrictions
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions
from chalk_flask.storage import COLLECTIONS
from tests.support.small_roster import fill


@pytest.fixture(scope="module")
def snapshot() -> Iterator[Snapshot]:
    store: Backend = open_store("memory:", COLLECTIONS)
    fill(store)
    with store.read("default") as opened:
        yield opened


def keys(snapshot: Snapshot, collection: str, where: Where) -> str:
    return " ".join(sorted(snapshot.keys(collection, where)))


def test_equal_restrictions_share_one_policy() -> None:
    first = AccessRestrictions.parse(orgs=["s-1"])
    second = AccessRestrictions.parse(orgs=["s-1"])
    principal = Principal("default", frozenset(), "t-1", first)
    assert policy_for(principal) is policy_for_restrictions(second)
    assert policy_for(Principal("default", frozenset(), "t-1")) is UNRESTRICTED
    assert policy_for_restrictions(NO_RESTRICTIONS) is UNRESTRICTED


def test_row_rules_exist_for_every_served_collection() -> None:
    assert ROW_RULES.keys() == RESOURCES.keys()


def test_unrestricted_policy_shows_everything() -> None:
    for name, resource_type in RESOURCES.items():
        assert UNRESTRICTED.rows(name) is MATCH_ALL
        assert UNRESTRICTED.resource_type(name) is resource_type
        assert UNRESTRICTED.hideable_references(name) == {}


def test_path_without_a_condition_stays_without_one() -> None:
    for policy in (UNRESTRICTED, policy_for_restrictions(AccessRestrictions.parse(orgs=["s-1"]))):
        assert policy.restrict_path(MATCH_ALL, "orgs") is MATCH_ALL  # a copy would be compared for each record


@pytest.mark.parametrize(
    ("restrictions", "collection", "visible"),
    [
        ({"orgs": ["s-2"]}, "orgs", "d-1 s-2"),
        ({"orgs": ["s-2"]}, "courses", "k-3 k-4"),
        ({"orgs": ["s-2"]}, "classes", "c-3 c-4"),
        ({"orgs": ["s-2"]}, "users", "u-2 u-3 u-5"),
        ({"orgs": ["s-2"]}, "demographics", "u-2"),
        ({"orgs": ["s-2"]}, "enrollments", "e-7 e-8"),
        ({"orgs": ["s-2"]}, "lineItems", ""),
        ({"orgs": ["s-2"]}, "academicSessions", "g-1 g-2 g-3 g-4 m-1 m-2 t-1 t-2 t-3 y-1"),
        ({"grades": ["09"]}, "users", "u-1 u-4 u-5 u-6 u-7 u-9"),
        ({"grades": ["09"]}, "results", "x-1 x-3 x-4 x-5"),
        ({"grades": ["09"]}, "classes", "c-1 c-2 c-3 c-4"),
        ({"classes": ["c-1"]}, "classes", "c-1"),
        ({"classes": ["c-1"]}, "courses", "k-1"),
        ({"classes": ["c-1"]}, "users", "u-1 u-2 u-4 u-8"),
        ({"classes": ["c-1"]}, "lineItems", "l-1 l-3 l-4"),
        ({"classes": ["c-1"], "grades": ["10"]}, "results", "x-2"),
        ({"classes": ["c-1"]}, "categories", "cat-1 cat-2 cat-3 cat-5 cat-6"),
        ({"orgs": ["s-2"]}, "categories", "cat-3 cat-4 cat-5 cat-6"),
        ({"classes": ["c-1"], "denied": ["lineItems"]}, "categories", "cat-2 cat-3 cat-5"),
        ({"grades": ["09"]}, "categories", "cat-1 cat-2 cat-3 cat-4 cat-5 cat-6"),
        ({"denied": ["demographics"]}, "demographics", ""),
    ],
)
def test_rows_are_those_that_the_restrictions_allow(
    snapshot: Snapshot, restrictions: dict[str, list[str]], collection: str, visible: str
) -> None:
    policy = policy_for_restrictions(AccessRestrictions.parse(**restrictions))
    assert keys(snapshot, collection, policy.rows(collection)) == visible
    assert keys(snapshot, collection, policy.rows_as_filter(collection)) == visible
    selective = policy.restrict(MATCH_ALL, collection, is_selective=True)
    assert keys(snapshot, collection, policy.restrict(MATCH_ALL, collection)) == visible
    assert keys(snapshot, collection, selective) == visible


def test_empty_restriction_allows_nothing(snapshot: Snapshot) -> None:
    policy = policy_for_restrictions(AccessRestrictions(orgs=frozenset()))
    assert keys(snapshot, "users", policy.rows("users")) == ""


def test_denied_collection_is_matched_by_nothing() -> None:
    policy = policy_for_restrictions(AccessRestrictions.parse(denied=["results"]))
    assert policy.rows("results") is MATCH_NONE
    assert policy.rows_as_filter("results") is MATCH_NONE


def test_resource_type_has_no_redacted_fields_and_paths() -> None:
    policy = policy_for_restrictions(AccessRestrictions.parse(redacted=["email", "metadata.note", "userIds.type"]))
    users = policy.resource_type("users")
    assert "email" not in users.fields
    assert {"metadata", "userIds", "givenName"} <= users.fields.keys()
    assert users.filter_path("email") is None
    assert users.filter_path("metadata.note") is None
    assert users.filter_path("metadata.other") is not None


def test_filter_on_a_reference_does_not_find_invisible_records(snapshot: Snapshot) -> None:
    policy = policy_for_restrictions(AccessRestrictions.parse(orgs=["s-2"]))
    visible, hidden = (Compare("agents.sourcedId", "=", key) for key in ("u-2", "u-6"))
    assert "agents.sourcedId" in policy.hideable_references("users")
    assert keys(snapshot, "users", policy.restrict_filter(hidden, "users")) == ""
    assert keys(snapshot, "users", policy.restrict_filter(visible, "users")) == ""
    assert keys(snapshot, "users", hidden) == "u-1"
    everyone = keys(snapshot, "users", MATCH_ALL)
    assert keys(snapshot, "users", policy.restrict_filter(Not(hidden), "users")) == everyone


def test_path_condition_selects_through_visible_records_only(snapshot: Snapshot) -> None:
    policy = policy_for_restrictions(AccessRestrictions.parse(classes=["c-1"]))
    students = In(KEY, Subquery("enrollments", "user.sourcedId", Compare("school.sourcedId", "=", "s-1")))
    assert keys(snapshot, "users", students) == "u-1 u-2 u-4 u-7 u-8 u-9"
    assert keys(snapshot, "users", policy.restrict_path(students, "users")) == "u-1 u-2 u-4 u-8"
