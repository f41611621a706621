"""Base class of the field types: options, column names, caching of parsed cells, and texts in errors."""

from __future__ import annotations

import pytest
from marshmallow import ValidationError

from backends import Field
from chalk_flask.oneroster.fields.base import (
    CACHE_SIZE,
    CellCache,
    FilterPath,
    OneRosterField,
    fold,
    plain_text,
    printable,
)
from chalk_flask.oneroster.fields.composites import RefField, RefListField, TextListField
from chalk_flask.oneroster.fields.scalars import EnumField, TextField


def test_column_name_is_the_json_name_by_default() -> None:
    assert TextField().column_name("title") == "title"
    assert TextField(column="classTitle").column_name("title") == "classTitle"
    assert TextField(column=None).column_name("title") is None


def test_column_name_of_references_ends_in_sourced_id() -> None:
    assert RefField("orgs", "org").column_name("parent") == "parentSourcedId"
    assert RefListField("academicSessions", "academicSession").column_name("terms") == "termSourcedIds"


def test_required_field_needs_a_cell_in_each_row() -> None:
    assert TextField(required=True).required_in_csv
    assert TextField(required_in_csv=True).required_in_csv
    assert not TextField().required_in_csv


def test_field_of_text_has_one_filter_path_and_one_stored_field() -> None:
    field = TextField(indexed=True)
    assert field.filter_paths("title") == (FilterPath("title", "title"),)
    assert field.storage_fields("title") == (Field("title", indexed=True),)


def test_deserialization_in_a_schema_normalizes() -> None:
    field = EnumField(("active",), former={"on": "active"})
    assert field.deserialize("on") == "active"
    with pytest.raises(ValidationError, match="'off' is not one of: active"):
        field.deserialize("off")


def test_normalize_must_be_defined_by_each_type() -> None:
    with pytest.raises(TypeError, match="OneRosterField must define normalize"):
        OneRosterField().normalize("x")


@pytest.mark.parametrize(
    ("field", "is_cached"),
    [(TextListField(), True), (EnumField(("x",)), True), (TextField(repeats=True), True), (TextField(), False)],
)
def test_parser_of_repeating_cells_is_cached(field: OneRosterField, is_cached: bool) -> None:
    parse = field.fast_parser()
    assert (parse("x") is parse("x")) is is_cached


def test_full_cache_of_cells_is_emptied() -> None:
    cache = CellCache(lambda cell: (cell, (cell,)))
    for number in range(CACHE_SIZE):
        assert cache[str(number)] == (str(number), (str(number),))
    assert len(cache) == CACHE_SIZE
    assert cache["next"] == ("next", ("next",))
    assert len(cache) == 1


def test_parser_returns_none_for_an_empty_list() -> None:
    assert TextListField().fast_parser()(" , ,") == (None, ())


def test_fold_ignores_case_of_all_scripts() -> None:
    assert fold("STRASSE") == fold("Straße") == "strasse"


@pytest.mark.parametrize("text", ["", "x", "é\n\U0001f600"])
def test_plain_text_returns_storable_text(text: str) -> None:
    assert plain_text(text) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "5 is not text"),
        (None, "None is not text"),
        (["x"], r"\['x'\] is not text"),
        ("a\0b", "the text contains a NUL or bytes that are not UTF-8; remove them"),
        ("\udcff", "the text contains a NUL or bytes that are not UTF-8; remove them"),
    ],
)
def test_plain_text_rejects_other_values(value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        plain_text(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "'x'"),
        (5, "5"),
        ("x" * 78, f"'{'x' * 78}'"),
        ("x" * 79, f"'{'x' * 75}'..."),
        (list(range(100)), str(list(range(100)))[:77] + "..."),
    ],
)
def test_printable_cuts_long_values(value: object, text: str) -> None:
    assert printable(value) == text
