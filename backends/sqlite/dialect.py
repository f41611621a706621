"""SQL of SQLite: its forms of conditions, and the functions that each connection defines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from backends.query import FOLDED_KEY
from backends.sql.dialect import Dialect, FieldKind, Fragment, join_as_tree

__all__ = ["CHECK_DEADLINE", "FOLD", "SQLITE"]

CHECK_DEADLINE = "chalk_check_deadline"
"""Name of the SQL function that ends the statement after its time limit, and returns 0 otherwise."""

FOLD = "chalk_fold"
"""Name of the SQL function that folds the case of a text, as `str.casefold` does."""

_LONG_TEXT_LENGTH = 512
"""Length in characters above which the search in a text checks the deadline. It is one instruction of SQLite."""

_MAX_PARAMS = 200
"""Number of values above which they are bound as one JSON array. SQLite limits the number of parameters."""


class _SQLiteDialect(Dialect):
    """Dialect of SQLite. The side table is `_many(id, path, value)`; `path` is an id from `_paths`."""

    true, false = "1", "0"
    max_depth = 10  # SQLite's parser stack has 100 entries

    def column(self, path: str) -> str:
        """Return the quoted column name of a scalar field, or the expression of a reserved one."""
        return f'{FOLD}("_key")' if path == FOLDED_KEY else super().column(path)

    def ignoring_index(self, column: str) -> str:
        """Return the column with a plus sign."""
        return "+" + column

    def test(self, column: str, operator: str) -> str:
        """Return the comparison. The search in a long text checks the deadline."""
        if operator != "~":
            return f"{column} {operator} ?"
        is_long = f"length({column}) > {_LONG_TEXT_LENGTH}"
        return f"instr({column}, ?) > CASE WHEN {is_long} THEN {CHECK_DEADLINE}() ELSE 0 END"

    def is_one_of(self, column: str, values: Sequence[Any]) -> Fragment:
        """Return the condition with a parameter for each of a few values, or a JSON array of many."""
        if len(values) <= _MAX_PARAMS:
            return Fragment(f"{column} IN ({', '.join('?' * len(values))})", tuple(values))
        # SQLite's JSON functions end a string at a NUL character, so such values are bound one by one.
        plain = [value for value in values if not (isinstance(value, str) and "\0" in value)]
        condition = Fragment(f"{column} IN (SELECT value FROM json_each(?))", (orjson.dumps(plain).decode(),))
        with_nul = [value for value in values if isinstance(value, str) and "\0" in value]
        if not with_nul:
            return condition
        batches = [with_nul[n : n + _MAX_PARAMS] for n in range(0, len(with_nul), _MAX_PARAMS)]
        texts = [condition.text, *(f"{column} IN ({', '.join('?' * len(batch))})" for batch in batches)]
        return Fragment(f"({join_as_tree(texts, ' OR ')})", (*condition.params, *with_nul))

    def negation(self, condition: str) -> str:
        """Return the negation, which is true for NULL."""
        return f"NOT ifnull({condition}, 0)"

    def in_subtree(self, name: str) -> str:
        """Return the condition. SQLite accepts the name of a table with one column."""
        return f"_id IN {name}"

    def has_side_value(self, tenant: int, path: int, test: Fragment) -> Fragment:
        """Return the condition. Paths belong to all tenants, and row ids to one."""
        return Fragment(f"_id IN (SELECT id FROM _many WHERE path = ? AND {test.text})", (path, *test.params))

    def side_values(self, tenant: int, path: int, kind: FieldKind, rows: Fragment) -> Fragment:
        """Return the SELECT of the values."""
        return Fragment(f"SELECT value FROM _many WHERE path = ? AND id IN ({rows.text})", (path, *rows.params))

    def smallest_side_value(self, tenant: int, path: int, kind: FieldKind) -> Fragment:
        """Return the expression of the smallest value."""
        return Fragment("(SELECT min(value) FROM _many WHERE id = _id AND path = ?)", (path,))


SQLITE = _SQLiteDialect()
"""The dialect of SQLite."""
