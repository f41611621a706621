"""Field types with several values or references: stored form, CSV cells, comparison keys, and errors."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from marshmallow import ValidationError

from backends import Field
from chalk_flask.oneroster.fields.base import OneRosterField
from chalk_flask.oneroster.fields.composites import (
    EnumListField,
    MetadataField,
    RefField,
    RefListField,
    TextListField,
    UserIdsField,
    flatten,
    split_list,
)

PARENT = RefField("orgs", "org")
TERMS = RefListField("academicSessions", "academicSession")
ROLES = EnumListField(("student", "teacher"))
ODD_ID = 'a/b "é"'


def encoded(value: object) -> bytes:
    """Return the bytes of a value for the JSON encoder, which may contain fragments."""
    return orjson.dumps(value)


@pytest.mark.parametrize(
    ("cell", "items"),
    [("", []), ("a", ["a"]), (" a , b,", ["a", "b"]), (",,", []), ("a,a", ["a", "a"])],
)
def test_split_list_trims_items_and_skips_empty_ones(cell: str, items: list[str]) -> None:
    assert split_list(cell) == items


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        (TextListField(), ["Math", "Art"], ["Math", "Art"]),
        (TextListField(), [], []),
        (ROLES, ["student", "teacher"], ["student", "teacher"]),
        (PARENT, {"sourcedId": "org-1"}, "org-1"),
        (PARENT, {"sourcedId": "org-1", "type": "org", "href": "x"}, "org-1"),
        (TERMS, [{"sourcedId": "t-2"}, {"sourcedId": "t-1", "type": "academicSession"}], ["t-2", "t-1"]),
        (TERMS, [], []),
        (
            UserIdsField(),
            [{"type": "LDAP", "identifier": "7", "other": 1}],
            [{"type": "LDAP", "identifier": "7"}],
        ),
        (MetadataField(), {"a": {"b": [1, None]}}, {"a": {"b": [1, None]}}),
    ],
)
def test_normalize_returns_the_stored_form(field: OneRosterField, value: object, stored: object) -> None:
    assert field.normalize(value) == stored


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (TextListField(), "Math", "'Math' is not a list"),
        (TextListField(), ["Math", 5], "5 is not text"),
        (ROLES, ["student", "aide"], "'aide' is not one of: student, teacher"),
        (ROLES, [None], "None is not text"),
        (PARENT, "org-1", """'org-1' is not a reference such as {"sourcedId": "..."}"""),
        (PARENT, {"sourcedId": "org-1", "type": "user"}, "'user' is not the type of a reference to orgs"),
        (PARENT, {}, "None is not text"),
        (PARENT, {"sourcedId": ""}, "an identifier must not be empty"),
        (PARENT, {"sourcedId": "x" * 256}, "is longer than 255 characters"),
        (TERMS, {"sourcedId": "t-1"}, "{'sourcedId': 't-1'} is not a list of references"),
        (TERMS, ["t-1"], "'t-1' is not a reference"),
        (TERMS, [{"sourcedId": "t-1", "type": "org"}], "'org' is not the type of a reference to academicSessions"),
        (UserIdsField(), "LDAP", "'LDAP' is not a list of objects with type and identifier"),
        (UserIdsField(), ["LDAP"], "['LDAP'] is not a list of objects with type and identifier"),
        (UserIdsField(), [{"type": "LDAP"}], "None is not text"),
        (MetadataField(), "x", "'x' is not an object"),
        (MetadataField(), None, "None is not an object"),
    ],
)
def test_invalid_value_is_rejected_with_its_text(field: OneRosterField, value: object, message: str) -> None:
    with pytest.raises(ValidationError) as error:
        field.normalize(value)
    assert message in error.value.messages[0]


@pytest.mark.parametrize(
    ("field", "cell", "value", "written"),
    [
        (TextListField(), " Math, Art ,", ["Math", "Art"], "Math,Art"),
        (ROLES, "student,teacher", ["student", "teacher"], "student,teacher"),
        (PARENT, "org-1", "org-1", "org-1"),
        (PARENT, ODD_ID, ODD_ID, ODD_ID),
        (TERMS, "t-2, t-1,t-2", ["t-2", "t-1"], "t-2,t-1"),
        (
            UserIdsField(),
            " {LDAP: a:b} , {SIS:7}",
            [{"type": "LDAP", "identifier": "a:b"}, {"type": "SIS", "identifier": "7"}],
            "{LDAP:a:b},{SIS:7}",
        ),
    ],
)
def test_cell_round_trip(field: OneRosterField, cell: str, value: object, written: str) -> None:
    assert field.from_cell(cell) == value
    body = orjson.loads(encoded(field.to_json(value)))
    assert field.to_cell(body) == written
    assert field.from_cell(written) == field.normalize(body) == value


@pytest.mark.parametrize(
    ("field", "cell", "message"),
    [
        (ROLES, "student,aide", "'aide' is not one of: student, teacher"),
        (PARENT, "x" * 256, "is longer than 255 characters"),
        (TERMS, f"t-1,{'x' * 256}", "is longer than 255 characters"),
        (PARENT, " org-1", "begins or ends with a blank"),
        (TERMS, "t-1,t-2\xa0", "begins or ends with a blank"),
        (UserIdsField(), "LDAP:7", "'LDAP:7' is not written {type:id},{type:id}"),
        (UserIdsField(), "{LDAP:7},{SIS}", "is not written {type:id},{type:id}"),
        (UserIdsField(), "{LDAP:7}{SIS:8}", "is not written {type:id},{type:id}"),
    ],
)
def test_invalid_cell_is_rejected_by_both_parsers(field: OneRosterField, cell: str, message: str) -> None:
    for parse in (field.from_cell, field.fast_parser()):
        with pytest.raises(ValidationError) as error:
            parse(cell)
        assert message in error.value.messages[0]


@pytest.mark.parametrize(
    ("field", "cell"),
    [
        (TextListField(), "Math,art"),
        (ROLES, "student"),
        (PARENT, "org-1"),
        (PARENT, "A.b~c_9-" * 31),
        (PARENT, ODD_ID),
        (PARENT, "org 1"),
        (TERMS, "t-1,t-2"),
        (TERMS, ODD_ID),
        (UserIdsField(), "{LDAP:7},{SIS:A}"),
    ],
)
def test_fast_parser_equals_the_separate_steps(field: OneRosterField, cell: str) -> None:
    value = field.from_cell(cell)
    parse = field.fast_parser()
    for _ in range(2):
        json_value, keys = parse(cell)
        assert encoded(json_value) == encoded(field.to_json(value))
        assert keys == field.comparison_keys(value)


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("org-1", rb'{"href":"\/orgs/org-1","sourcedId":"org-1","type":"org"}'),
        (ODD_ID, rb'{"href":"\/orgs/a%2Fb%20%22%C3%A9%22","sourcedId":"a/b \"' + 'é\\""'.encode() + b',"type":"org"}'),
    ],
)
def test_href_of_reference_is_escaped(key: str, body: bytes) -> None:
    assert encoded(PARENT.to_json(key)) == body
    assert encoded(RefListField("orgs", "org").to_json([key])) == b"[" + body + b"]"
    assert PARENT.normalize(orjson.loads(body)) == key


@pytest.mark.parametrize(
    ("field", "value", "keys"),
    [
        (TextListField(), ["Math", "MATH", "Art"], (("math", "art"),)),
        (TextListField(), [], ((),)),
        (ROLES, ["student"], (("student",),)),
        (PARENT, "Org-1", ("Org-1",)),
        (TERMS, ["T-2", "T-1"], (("T-2", "T-1"),)),
        (
            UserIdsField(),
            [{"type": "LDAP", "identifier": "A"}, {"type": "ldap", "identifier": "b"}],
            (("ldap",), ("a", "b")),
        ),
    ],
)
def test_comparison_keys_match_the_stored_fields(field: OneRosterField, value: object, keys: tuple[Any, ...]) -> None:
    assert field.comparison_keys(value) == keys
    assert len(field.storage_fields("name")) == len(keys)


def test_stored_fields_of_each_type() -> None:
    assert TextListField(indexed=True).storage_fields("grades") == (Field("grades", multi_valued=True, indexed=True),)
    assert PARENT.storage_fields("parent") == (Field("parent.sourcedId", indexed=True),)
    assert TERMS.storage_fields("terms") == (Field("terms.sourcedId", multi_valued=True, indexed=True),)
    assert [field.path for field in UserIdsField().storage_fields("userIds")] == ["userIds.type", "userIds.identifier"]
    assert MetadataField().storage_fields("metadata") == (Field("metadata.*", multi_valued=True),)


@pytest.mark.parametrize(
    ("field", "name", "paths"),
    [
        (TextListField(), "grades", [("grades", "grades", "text", True)]),
        (
            PARENT,
            "parent",
            [
                ("parent.sourcedId", "parent.sourcedId", "exact", False),
                ("parent", "parent.sourcedId", "exact", False),
            ],
        ),
        (
            TERMS,
            "terms",
            [("terms.sourcedId", "terms.sourcedId", "exact", True), ("terms", "terms.sourcedId", "exact", True)],
        ),
        (
            UserIdsField(),
            "userIds",
            [
                ("userIds.type", "userIds.type", "text", True),
                ("userIds.identifier", "userIds.identifier", "text", True),
            ],
        ),
        (MetadataField(), "metadata", [("metadata.*", "metadata.*", "text", False)]),
    ],
)
def test_filter_paths_name_their_stored_field(
    field: OneRosterField, name: str, paths: list[tuple[str, str, str, bool]]
) -> None:
    assert [(path.name, path.field, path.value_type, path.multi_valued) for path in field.filter_paths(name)] == paths


def test_metadata_is_in_no_column_of_its_own() -> None:
    assert MetadataField().column_name("metadata") is None


def test_flatten_yields_path_and_key_of_each_value() -> None:
    value = {"House": "Red", "a": {"b": [1, True, None, {"c": "X"}]}, "empty": {}, "score": 87.5}
    assert list(flatten("metadata", value)) == [
        ("metadata.House", "red"),
        ("metadata.a.b", "1"),
        ("metadata.a.b", "true"),
        ("metadata.a.b.c", "x"),
        ("metadata.score", "87.5"),
    ]
