"""Scopes: satisfaction, parsing and text form."""

from __future__ import annotations

import pytest

from chalk_flask.permissions.scopes import (
    ALL,
    DEFAULT,
    DEMOGRAPHICS,
    GRADEBOOK,
    GRADEBOOK_DELETE,
    GRADEBOOK_WRITE,
    PREFIX,
    RESOURCE,
    ROSTER,
    ROSTER_CORE,
    UnknownScopeError,
    includes_scope,
    known_scopes,
    parse_scopes,
)


@pytest.mark.parametrize("scope", ALL)
def test_each_scope_satisfies_itself(scope: str) -> None:
    assert includes_scope(frozenset({scope}), scope)
    assert not includes_scope(frozenset(), scope)


def test_roster_scope_includes_roster_core_only_in_that_direction() -> None:
    assert includes_scope(frozenset({ROSTER}), ROSTER_CORE)
    assert not includes_scope(frozenset({ROSTER_CORE}), ROSTER)


def test_demographics_require_their_own_scope() -> None:
    assert not includes_scope(frozenset(ALL) - {DEMOGRAPHICS}, DEMOGRAPHICS)
    assert includes_scope(frozenset(ALL), DEMOGRAPHICS)


def test_gradebook_write_scopes_include_no_reads() -> None:
    granted = frozenset({GRADEBOOK_WRITE, GRADEBOOK_DELETE})
    assert not any(includes_scope(granted, scope) for scope in (ROSTER_CORE, ROSTER, RESOURCE, GRADEBOOK))


def test_parse_scopes_defaults_to_reads_without_demographics() -> None:
    assert parse_scopes([]) == DEFAULT == {ROSTER_CORE, ROSTER, RESOURCE, GRADEBOOK}


def test_known_scopes_are_found_by_uri_or_last_part() -> None:
    names = [ROSTER, "gradebook.readonly", "openid", "", "all", "ROSTER.readonly", PREFIX]
    assert known_scopes(names) == {ROSTER, GRADEBOOK}


def test_parse_scopes_accepts_uris_last_parts_and_all() -> None:
    assert parse_scopes([ROSTER, "gradebook.readonly"]) == {ROSTER, GRADEBOOK}
    assert parse_scopes(["all"]) == frozenset(ALL)
    assert len(ALL) == 7


@pytest.mark.parametrize("text", ["roster", "", "ALL", "https://purl.imsglobal.org/spec/or/v1p2/scope/roster.readonly"])
def test_parse_scopes_rejects_an_unknown_scope_and_lists_the_scopes(text: str) -> None:
    with pytest.raises(UnknownScopeError, match=r"the scopes are roster-core\.readonly, roster\.readonly") as caught:
        parse_scopes(["roster.readonly", text])
    assert repr(text) in str(caught.value)
