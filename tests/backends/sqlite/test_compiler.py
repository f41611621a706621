"""Compiled conditions: which of them SQLite evaluates in place, instead of for a whole table beforehand."""

from __future__ import annotations

import pytest

from backends import KEY, MATCH_ALL, And, Compare, In, Not, Or, Subquery, Where
from backends.sql import Compiler
from backends.sqlite.dialect import SQLITE
from backends.testing.base import COLLECTIONS

BY_NAME = {collection.name: collection for collection in COLLECTIONS}
NAMED: Where = In("name", ("ada", "bob"))


def subtrees(where: Where) -> str:
    """Return the statements that SQLite evaluates before the query."""
    compiler = Compiler(SQLITE, BY_NAME, lambda _collection, _path: 1, 1)
    compiler.from_where(BY_NAME["people"], where)
    return compiler.with_clause().text


def nested_conjunctions(where: Where, levels: int) -> Where:
    for level in range(levels):
        where = And((where, Compare("age", ">", level))) if level % 2 else And((Compare("age", ">", level), where))
    return where


def nested_subqueries(field: str, levels: int) -> Where:
    where = NAMED
    for _ in range(levels):
        where = In(field, Subquery("people", field, where))
    return where


@pytest.mark.parametrize(
    "where",
    [
        nested_conjunctions(Or((NAMED, Not(NAMED))), 30),
        nested_subqueries(KEY, 2),
        nested_subqueries("tags", 1),
        # A condition of a path that uses another collection, and the double negation of a row rule beside it.
        And(
            (
                And((Or((nested_subqueries(KEY, 1), NAMED)), Not(NAMED))),
                Not(Or((Not(Or((NAMED, nested_subqueries(KEY, 2)))),))),
            )
        ),
    ],
)
def test_condition_of_common_depth_is_evaluated_in_place(where: Where) -> None:
    assert subtrees(where) == ""


@pytest.mark.parametrize("where", [nested_subqueries(KEY, 5), nested_subqueries("tags", 3)])
def test_deep_condition_is_evaluated_beforehand(where: Where) -> None:
    assert "AS MATERIALIZED" in subtrees(where)


def test_nested_conjunctions_are_one() -> None:
    compiler = Compiler(SQLITE, BY_NAME, lambda _collection, _path: 1, 1)
    nested = And((And((NAMED, And((MATCH_ALL, Compare("age", "=", 7))))), Compare(KEY, "=", "a")))
    text = compiler.from_where(BY_NAME["people"], nested).text
    assert text.endswith('("name" IN (?, ?) AND "age" = ? AND "_key" = ?)')
