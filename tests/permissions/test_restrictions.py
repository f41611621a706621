"""Access restrictions: parsing, storage and redacted paths."""

from __future__ import annotations

from typing import Any

import pytest

from chalk_flask.permissions.restrictions import (
    NO_RESTRICTIONS,
    AccessRestrictions,
    InvalidRestrictionError,
    is_redacted,
)


def test_parse_without_arguments_restricts_nothing() -> None:
    assert AccessRestrictions.parse() is NO_RESTRICTIONS
    assert NO_RESTRICTIONS.to_dict() == {}
    assert AccessRestrictions.from_dict(None) is AccessRestrictions.from_dict({}) is NO_RESTRICTIONS
    assert str(NO_RESTRICTIONS) == ""


def test_restrictions_round_trip_through_a_json_object() -> None:
    restrictions = AccessRestrictions.parse(["s-2", "s-1"], ["09"], ["c-1"], ["results"], ["metadata.*", "email"])
    data = restrictions.to_dict()
    assert data == {
        "orgs": ["s-1", "s-2"],
        "grades": ["09"],
        "classes": ["c-1"],
        "denied": ["results"],
        "redacted": ["email", "metadata.*"],
    }
    assert AccessRestrictions.from_dict(data) == restrictions
    assert str(restrictions) == "orgs s-1,s-2; grades 09; classes c-1; no results; without email,metadata.*"


def test_empty_list_allows_nothing_and_stays_empty() -> None:
    nothing = AccessRestrictions(orgs=frozenset())
    assert nothing.to_dict() == {"orgs": []}
    assert AccessRestrictions.from_dict(nothing.to_dict()) == nothing
    assert str(nothing) == "orgs none"


@pytest.mark.parametrize(
    "path",
    [
        *("email", "phone", "sms", "givenName", "score", "schoolYear", "birthDate", " email "),
        *("userIds", "userIds.identifier", "userIds.*"),
        *("metadata", "metadata.*", "metadata.x", "metadata.x.y", "metadata.a.*"),
    ],
)
def test_parse_accepts_fields_of_any_class(path: str) -> None:
    assert AccessRestrictions.parse(redacted=[path]).redacted == {path.strip()}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        *((path, "without children,email,parent") for path in ("parent", "children", "parent.sourcedId", "children.*")),
        ("title", "without courseCode,email,title"),
        ("courseCode", "without courseCode,email"),
    ],
)
def test_redacted_field_includes_those_that_repeat_it(path: str, text: str) -> None:
    restrictions = AccessRestrictions.parse(redacted=[path, "email"])
    assert str(restrictions) == text
    stored_before = AccessRestrictions.from_dict({"redacted": [path.partition(".")[0], "email"]})
    assert stored_before == restrictions


@pytest.mark.parametrize(("path", "stored"), [("agents.sourcedId", "agents"), ("agents.*", "agents")])
def test_parse_redacts_a_reference_as_a_whole(path: str, stored: str) -> None:
    assert AccessRestrictions.parse(redacted=[path]).redacted == {stored}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"denied": ["people"]}, ["unknown collection 'people'", "academicSessions", "results"]),
        ({"denied": ["classResources"]}, ["unknown collection 'classResources'"]),
        ({"denied": ["demographic"]}, ["unknown collection 'demographic'", "demographics"]),
        ({"redacted": ["e-mail"]}, ["unknown field 'e-mail'", "email", "metadata.*"]),
        ({"redacted": ["email.domain"]}, ["unknown field 'email.domain'"]),
        ({"redacted": ["userIds.kind"]}, ["unknown field 'userIds.kind'"]),
        ({"redacted": ["metadata."]}, ["unknown field 'metadata.'"]),
        ({"redacted": ["metadata..*"]}, ["unknown field"]),
        ({"redacted": ["*"]}, ["unknown field '*'"]),
        ({"redacted": [""]}, ["unknown field ''"]),
        ({"redacted": ["password"]}, ["unknown field 'password'"]),
        ({"redacted": ["href"]}, ["unknown field 'href'"]),
        ({"redacted": ["sourcedId"]}, ["sourcedId cannot be redacted", "consumers need it"]),
        ({"redacted": ["status"]}, ["status cannot be redacted"]),
        ({"redacted": ["dateLastModified"]}, ["dateLastModified cannot be redacted"]),
        ({"redacted": ["orgs"]}, ["orgs cannot be redacted", "a required reference"]),
        ({"redacted": ["class.sourcedId"]}, ["class cannot be redacted"]),
        ({"redacted": ["lineItem"]}, ["lineItem cannot be redacted"]),
        ({"redacted": ["role"]}, ["role cannot be redacted", "/students"]),
        ({"redacted": ["type"]}, ["type cannot be redacted", "/schools"]),
        ({"orgs": [""]}, ["the id of an org cannot be blank"]),
        ({"grades": [" "]}, ["the id of a grade cannot be blank"]),
        ({"classes": ["c-1", "\t"]}, ["the id of a class cannot be blank"]),
    ],
)
def test_parse_rejects_invalid_restrictions_and_lists_valid_ones(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InvalidRestrictionError) as error:
        AccessRestrictions.parse(**options)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("redacted", "path", "expected"),
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
def test_is_redacted_includes_the_paths_below(redacted: str, path: str, expected: bool) -> None:
    assert is_redacted({redacted}, path) is expected
