"""Search box: filters that the grammar of the API accepts."""

from __future__ import annotations

import pytest

from chalk_flask.console.pages.roster.catalog import COLLECTIONS
from chalk_flask.console.pages.roster.search import completions, search_filter, suggestions
from chalk_flask.oneroster.filters import compile_filter, parse_filter

TEXTS = [
    "x",
    "Ada Jones",
    "Jones, Ada",
    "O'Brien",
    "a'b' OR c='d",
    "''",
    "100%",
    "ada@north.example",
    ",",
    "数学",
    " x ",
]


@pytest.mark.parametrize("name", COLLECTIONS)
@pytest.mark.parametrize("text", TEXTS)
def test_search_text_is_a_valid_filter(name: str, text: str) -> None:
    parsed = parse_filter(search_filter(COLLECTIONS[name], text, ""))
    assert parsed is not None
    compile_filter(parsed, COLLECTIONS[name].resource_type)


def test_quotes_in_a_search_stay_part_of_the_value() -> None:
    parsed = parse_filter(search_filter(COLLECTIONS["users"], "a'b' OR c='d@", ""))
    assert parsed is not None
    assert {clause.value for clause in parsed.clauses} == {"a'b' OR c='d@"}


@pytest.mark.parametrize("name", COLLECTIONS)
def test_suggested_filters_are_valid(name: str) -> None:
    found = suggestions(COLLECTIONS[name])
    assert len(found) > 2
    for text in found:
        parsed = parse_filter(text)
        assert parsed is not None
        compile_filter(parsed, COLLECTIONS[name].resource_type)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_completions_name_fields_of_the_schema(name: str) -> None:
    resource_type = COLLECTIONS[name].resource_type
    for field in completions(COLLECTIONS[name]):
        assert resource_type.filter_path(field["name"]) is not None
    assert {"status", "sourcedId"} <= {field["name"] for field in completions(COLLECTIONS[name])}


@pytest.mark.parametrize("name", COLLECTIONS)
def test_columns_are_fields_of_the_schema(name: str) -> None:
    collection = COLLECTIONS[name]
    names = {*collection.presentation.columns, *collection.presentation.title}
    assert names <= collection.resource_type.fields.keys()
    assert collection.summary
