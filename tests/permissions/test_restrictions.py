"""Limits as an operator names them and as they are kept."""

from __future__ import annotations

from typing import Any

import pytest

from chalk_flask.permissions.restrictions import (
    NO_RESTRICTIONS,
    AccessRestrictions,
    InvalidRestrictionError,
    is_redacted,
)


def test_what_is_not_named_is_not_limited() -> None:
    assert AccessRestrictions.parse() is NO_RESTRICTIONS
    assert NO_RESTRICTIONS.to_dict() == {}
    assert AccessRestrictions.from_dict(None) is AccessRestrictions.from_dict({}) is NO_RESTRICTIONS
    assert str(NO_RESTRICTIONS) == ""


def test_limits_are_kept_as_a_json_object_and_read_again() -> None:
    limits = AccessRestrictions.parse(["s-2", "s-1"], ["09"], ["c-1"], ["results"], ["metadata.*", "email"])
    data = limits.to_dict()
    assert data == {
        "orgs": ["s-1", "s-2"],
        "grades": ["09"],
        "classes": ["c-1"],
        "denied": ["results"],
        "redacted": ["email", "metadata.*"],
    }
    assert AccessRestrictions.from_dict(data) == limits
    assert str(limits) == "orgs s-1,s-2; grades 09; classes c-1; no results; without email,metadata.*"


def test_an_empty_list_allows_nothing_and_stays_one() -> None:
    nothing = AccessRestrictions(orgs=frozenset())
    assert nothing.to_dict() == {"orgs": []}
    assert AccessRestrictions.from_dict(nothing.to_dict()) == nothing
    assert str(nothing) == "orgs none"


@pytest.mark.parametrize(
    "path",
    [
        *("email", "phone", "sms", "givenName", "score", "parent", "schoolYear", "birthDate", " email "),
        *("userIds", "userIds.identifier", "userIds.*"),
        *("metadata", "metadata.*", "metadata.x", "metadata.x.y", "metadata.a.*"),
    ],
)
def test_fields_that_some_class_has_can_be_redacted(path: str) -> None:
    assert AccessRestrictions.parse(redacted=[path]).redacted == {path.strip()}


@pytest.mark.parametrize(("path", "kept"), [("agents.sourcedId", "agents"), ("agents.*", "agents")])
def test_a_reference_is_redacted_as_a_whole(path: str, kept: str) -> None:
    assert AccessRestrictions.parse(redacted=[path]).redacted == {kept}


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"denied": ["people"]}, ["no family 'people'", "academicSessions", "results"]),
        ({"denied": ["classResources"]}, ["no family 'classResources'"]),
        ({"denied": ["demographic"]}, ["no family 'demographic'", "demographics"]),
        ({"redacted": ["e-mail"]}, ["no field 'e-mail'", "email", "metadata.*"]),
        ({"redacted": ["email.domain"]}, ["no field 'email.domain'"]),
        ({"redacted": ["userIds.kind"]}, ["no field 'userIds.kind'"]),
        ({"redacted": ["metadata."]}, ["no field 'metadata.'"]),
        ({"redacted": ["metadata..*"]}, ["no field"]),
        ({"redacted": ["*"]}, ["no field '*'"]),
        ({"redacted": [""]}, ["no field ''"]),
        ({"redacted": ["password"]}, ["no field 'password'"]),
        ({"redacted": ["href"]}, ["no field 'href'"]),
        ({"redacted": ["sourcedId"]}, ["sourcedId cannot be redacted", "what became of a record"]),
        ({"redacted": ["status"]}, ["status cannot be redacted"]),
        ({"redacted": ["dateLastModified"]}, ["dateLastModified cannot be redacted"]),
        ({"redacted": ["orgs"]}, ["orgs cannot be redacted", "a reference without which"]),
        ({"redacted": ["class.sourcedId"]}, ["class cannot be redacted"]),
        ({"redacted": ["lineItem"]}, ["lineItem cannot be redacted"]),
        ({"redacted": ["role"]}, ["role cannot be redacted", "/students"]),
        ({"redacted": ["type"]}, ["type cannot be redacted", "/schools"]),
        ({"orgs": [""]}, ["an org is named by nothing"]),
        ({"grades": [" "]}, ["a grade is named by nothing"]),
        ({"classes": ["c-1", "\t"]}, ["a class is named by nothing"]),
    ],
)
def test_limits_that_nobody_can_mean_are_refused_with_what_there_is(named: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InvalidRestrictionError) as error:
        AccessRestrictions.parse(**named)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("redacted", "path", "covered"),
    [
        ("email", "email", True),
        ("email", "emails", False),
        ("metadata.*", "metadata", True),
        ("metadata.*", "metadata.x.y", True),
        ("metadata.x", "metadata.x.y", True),
        ("metadata.x", "metadata.xy", False),
        ("metadata.x", "metadata", False),
        ("userIds", "userIds.type", True),
        ("userIds.type", "userIds.identifier", False),
    ],
)
def test_a_redacted_path_covers_what_lies_below_it(redacted: str, path: str, covered: bool) -> None:
    assert is_redacted({redacted}, path) is covered
