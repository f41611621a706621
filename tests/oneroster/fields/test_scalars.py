"""Field types with one value: stored form, CSV cells, comparison keys, and errors."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from backends import Field
from chalk_flask.oneroster.fields.base import OneRosterField
from chalk_flask.oneroster.fields.scalars import (
    MAX_GUID_LENGTH,
    BooleanField,
    DateField,
    DateOrDateTimeField,
    DateTimeField,
    EmailField,
    EnumField,
    GuidField,
    NumberField,
    PhoneField,
    TextField,
    YearField,
)

STATUS = EnumField(("active", "tobedeleted"), former={"inactive": "tobedeleted"})


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        (TextField(), " Ada ", " Ada "),
        (GuidField(), "A-1 é", "A-1 é"),
        (GuidField(), "x" * MAX_GUID_LENGTH, "x" * MAX_GUID_LENGTH),
        (STATUS, "active", "active"),
        (STATUS, "inactive", "tobedeleted"),
        (BooleanField(), "true", "true"),
        (BooleanField(), "FALSE", "false"),
        (BooleanField(), True, "true"),
        (BooleanField(), False, "false"),
        (DateField(), "2026-02-28", "2026-02-28"),
        (DateField(), "2026-02-28T23:59:59-05:00", "2026-02-28"),
        (DateField(), "2026-02-28 10:00", "2026-02-28"),
        (DateTimeField(), "2026-02-28", "2026-02-28T00:00:00.000Z"),
        (DateTimeField(), "2026-02-28T01:30:00.1239+01:00", "2026-02-28T00:30:00.123Z"),
        (DateOrDateTimeField(), "2026-02-28T00:00:00Z", "2026-02-28T00:00:00.000Z"),
        (YearField(), "2027", "2027"),
        (NumberField(), 87.5, 87.5),
        (NumberField(), "87.50", 87.5),
        (NumberField(), 80.0, 80),
        (NumberField(), "1e3", 1000),
        (NumberField(), 2**53, float(2**53)),
    ],
)
def test_normalize_returns_the_stored_form(field: OneRosterField, value: object, stored: object) -> None:
    normalized = field.normalize(value)
    assert (normalized, type(normalized)) == (stored, type(stored))
    assert field.to_json(normalized) == stored
    assert field.normalize(normalized) == stored, "a stored value is in normal form"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (TextField(), 5, "5 is not text"),
        (GuidField(), "x" * 256, r"'x+'\.\.\. is longer than 255 characters"),
        (GuidField(), "", "an identifier must not be empty"),
        (GuidField(), None, "None is not text"),
        (STATUS, "Active", "'Active' is not one of: active, tobedeleted"),
        (STATUS, True, "True is not text"),
        (BooleanField(), "yes", "'yes' is neither true nor false"),
        (BooleanField(), 1, "1 is not text"),
        (DateField(), "2026-02-30", "'2026-02-30' is not a calendar date written YYYY-MM-DD"),
        (DateField(), "2026-02-2", "is not a calendar date written YYYY-MM-DD"),
        (DateField(), "2026-02-28x", "'2026-02-28x' is not a calendar date"),
        (DateField(), 2026, "2026 is not text"),
        (DateTimeField(), "soon", "'soon' is not a date-time written YYYY-MM-DDTHH:MM:SS.sssZ or YYYY-MM-DD"),
        (DateTimeField(), "2026-02-28T25:00:00Z", "is not a date-time written"),
        (DateTimeField(), None, "None is not text"),
        (YearField(), "27", "'27' is not a year written YYYY"),
        (YearField(), 2027, "2027 is not text"),
        (NumberField(), True, "True is not a number"),
        (NumberField(), None, "None is not a number"),
        (NumberField(), "87,5", "'87,5' is not a base-10 number such as 87.5"),
        (NumberField(), "", "'' is not a base-10 number"),
        (NumberField(), "NaN", "'NaN' is not a base-10 number"),
        (NumberField(), float("inf"), "inf is not a base-10 number"),
    ],
)
def test_invalid_value_is_rejected_with_its_text(field: OneRosterField, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        field.normalize(value)


@pytest.mark.parametrize(
    ("field", "cell"),
    [
        (TextField(), "Ada, B."),
        (TextField(repeats=True), "Ada"),
        (GuidField(), "A-1"),
        (STATUS, "active"),
        (BooleanField(), "true"),
        (DateField(), "2026-02-28"),
        (DateTimeField(), "2026-02-28T00:30:00.123Z"),
        (DateOrDateTimeField(), "2026-02-28"),
        (DateOrDateTimeField(), "2026-02-28T00:30:00.000Z"),
        (YearField(), "2027"),
        (NumberField(), "87.5"),
        (NumberField(), "-3"),
        (NumberField(), "1e+300"),
    ],
)
def test_cell_round_trip(field: OneRosterField, cell: str) -> None:
    value = field.from_cell(cell)
    written = field.to_cell(value)
    assert written == cell or isinstance(field, NumberField)
    assert field.from_cell(written) == value


@pytest.mark.parametrize(
    ("field", "cell"),
    [
        (TextField(), "STRASSE"),
        (TextField(repeats=True), "STRASSE"),
        (GuidField(), "A-1"),
        (STATUS, "inactive"),
        (BooleanField(), "True"),
        (DateField(), "2026-02-28"),
        (DateTimeField(), "2026-02-28T01:00:00+01:00"),
        (DateOrDateTimeField(), "2026-02-28"),
        (YearField(), "2027"),
        (NumberField(), "87.50"),
    ],
)
def test_fast_parser_equals_the_separate_steps(field: OneRosterField, cell: str) -> None:
    value = field.from_cell(cell)
    parse = field.fast_parser()
    assert parse(cell) == parse(cell) == (field.to_json(value), field.comparison_keys(value))


@pytest.mark.parametrize(
    ("field", "cell"),
    [
        (GuidField(), "x" * 256),
        (STATUS, "x"),
        (BooleanField(), "x"),
        (DateField(), "2026-02-28T00:00:00Z"),
        (DateTimeField(), "x"),
        (YearField(), "x"),
        (NumberField(), "x"),
    ],
)
def test_fast_parser_rejects_the_same_cells(field: OneRosterField, cell: str) -> None:
    with pytest.raises(ValidationError) as slow:
        field.from_cell(cell)
    with pytest.raises(ValidationError) as fast:
        field.fast_parser()(cell)
    assert fast.value.messages == slow.value.messages


@pytest.mark.parametrize(
    ("field", "value", "keys"),
    [
        (TextField(), "Straße", ("strasse",)),
        (GuidField(), "A-1", ()),
        (STATUS, "tobedeleted", ("tobedeleted",)),
        (BooleanField(), "true", ("true",)),
        (DateField(), "2026-02-28", ("2026-02-28",)),
        (DateTimeField(), "2026-02-28T00:00:00.000Z", ("2026-02-28t00:00:00.000z",)),
        (YearField(), "2027", ("2027", 2027.0)),
        (NumberField(), 80, (80.0, "80")),
        (NumberField(), 87.5, (87.5, "87.5")),
    ],
)
def test_comparison_keys_match_the_stored_fields(field: OneRosterField, value: object, keys: tuple[Any, ...]) -> None:
    assert field.comparison_keys(value) == keys
    assert len(field.storage_fields("name")) == len(keys)


def test_stored_fields_of_each_type() -> None:
    assert EnumField(("x",)).storage_fields("role") == (Field("role", low_cardinality=True),)
    assert YearField().storage_fields("year") == (Field("year"), Field("year#number", "number"))
    assert NumberField(indexed=True).storage_fields("score") == (
        Field("score", "number", indexed=True),
        Field("score#text"),
    )


@pytest.mark.parametrize(
    ("field", "value_type"),
    [
        (EmailField(), "email"),
        (PhoneField(), "phone"),
        (TextField(), "text"),
        (STATUS, "text"),
        (GuidField(), "exact"),
        (BooleanField(), "boolean"),
        (DateField(), "date"),
        (DateTimeField(), "datetime"),
        (DateOrDateTimeField(), "datetime"),
        (YearField(), "year"),
        (NumberField(), "number"),
    ],
)
def test_filter_path_has_the_type_of_the_field(field: OneRosterField, value_type: str) -> None:
    [path] = field.filter_paths("name")
    assert (path.name, path.value_type, path.multi_valued) == ("name", value_type, False)


def test_filter_paths_of_years_and_numbers_name_their_second_field() -> None:
    [year], [number] = YearField().filter_paths("year"), NumberField().filter_paths("score")
    assert (year.field, year.order_field) == ("year", "year#number")
    assert (number.field, number.text) == ("score", "score#text")
