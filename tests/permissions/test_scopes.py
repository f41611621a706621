"""Which scope opens what, and how an operator names them."""

from __future__ import annotations

import pytest

from chalk_flask.permissions.scopes import (
    ALL,
    DEFAULT,
    DEMOGRAPHICS,
    GRADEBOOK,
    GRADEBOOK_DELETE,
    GRADEBOOK_WRITE,
    RESOURCE,
    ROSTER,
    ROSTER_CORE,
    UnknownScopeError,
    parse_scopes,
    scope_satisfied,
)


@pytest.mark.parametrize("scope", ALL)
def test_each_scope_opens_its_own_door(scope: str) -> None:
    assert scope_satisfied(frozenset({scope}), scope)
    assert not scope_satisfied(frozenset(), scope)


def test_the_roster_scope_opens_the_core_too_and_not_the_other_way_round() -> None:
    assert scope_satisfied(frozenset({ROSTER}), ROSTER_CORE)
    assert not scope_satisfied(frozenset({ROSTER_CORE}), ROSTER)


def test_nothing_but_its_own_scope_opens_demographics() -> None:
    assert not scope_satisfied(frozenset(ALL) - {DEMOGRAPHICS}, DEMOGRAPHICS)
    assert scope_satisfied(frozenset(ALL), DEMOGRAPHICS)


def test_the_gradebook_scopes_open_no_rostering_and_writing_is_not_reading() -> None:
    granted = frozenset({GRADEBOOK_WRITE, GRADEBOOK_DELETE})
    assert not any(scope_satisfied(granted, scope) for scope in (ROSTER_CORE, ROSTER, RESOURCE, GRADEBOOK))


def test_without_any_scope_a_token_reads_everything_but_demographics_and_writes_nothing() -> None:
    assert parse_scopes([]) == DEFAULT == {ROSTER_CORE, ROSTER, RESOURCE, GRADEBOOK}


def test_scopes_are_named_by_their_uri_by_their_last_part_or_all_at_once() -> None:
    assert parse_scopes([ROSTER, "gradebook.readonly"]) == {ROSTER, GRADEBOOK}
    assert parse_scopes(["all"]) == frozenset(ALL)
    assert len(ALL) == 7


@pytest.mark.parametrize("text", ["roster", "", "ALL", "https://purl.imsglobal.org/spec/or/v1p2/scope/roster.readonly"])
def test_an_unknown_scope_is_refused_with_the_list_of_those_there_are(text: str) -> None:
    with pytest.raises(UnknownScopeError, match=r"there are all, roster-core\.readonly, roster\.readonly") as refused:
        parse_scopes(["roster.readonly", text])
    assert repr(text) in str(refused.value)
