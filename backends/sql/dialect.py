"""SQL text with its parameters, and the differences between the databases that the compiler knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from backends.query import KEY, Scalar

__all__ = ["Dialect", "FieldKind", "Fragment", "join_as_tree", "quote_identifier"]

FieldKind: TypeAlias = Literal["text", "number"]

_MAX_TERMS = 200
"""Number of terms above which they are joined as a tree. Databases limit the depth of an expression."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """SQL text with its parameters in order. The text has a question mark for each parameter."""

    text: str
    params: tuple[Any, ...] = ()


def quote_identifier(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def join_as_tree(parts: list[str], operator: str) -> str:
    """Return the parts joined by an operator, in nested parentheses if there are many."""
    while len(parts) > _MAX_TERMS:
        groups = (parts[n : n + _MAX_TERMS] for n in range(0, len(parts), _MAX_TERMS))
        parts = [f"({operator.join(group)})" for group in groups]
    return operator.join(parts)


class Dialect(ABC):
    """Forms of SQL that differ between databases. An instance has no state.

    Each collection has a table with the columns `_id`, `_tenant`, `_key`, `_body` and one column per scalar field. A
    side table has the values of all multi-valued and dynamic fields.
    """

    true = "TRUE"
    false = "FALSE"
    max_depth = 200
    """Depth above which a subtree of a condition becomes a common table expression."""

    def table(self, collection: str) -> str:
        """Return the quoted table name of a collection."""
        return quote_identifier(collection)

    def column(self, path: str) -> str:
        """Return the quoted column name of a scalar field, or the expression of a reserved one."""
        return '"_key"' if path == KEY else quote_identifier(path)

    def side_column(self, kind: FieldKind) -> str:
        """Return the column of the side table with the values of a kind."""
        return "value"

    def ignoring_index(self, column: str) -> str:
        """Return an expression with the value of the column, for which no index is used if the database can do that."""
        return column

    def param(self, value: Scalar) -> Any:
        """Return the parameter for a value. Numbers are floats, as they are stored."""
        return value if isinstance(value, str) else float(value)

    @abstractmethod
    def test(self, column: str, operator: str) -> str:
        """Return the comparison of a column with a parameter."""

    @abstractmethod
    def is_one_of(self, column: str, values: Sequence[Any]) -> Fragment:
        """Return the condition that the column has one of the values, which are parameters."""

    @abstractmethod
    def negation(self, condition: str) -> str:
        """Return the condition that is true if the other one is false or NULL."""

    @abstractmethod
    def in_subtree(self, name: str) -> str:
        """Return the condition that `_id` is in a common table expression with this name."""

    @abstractmethod
    def has_side_value(self, tenant: int, path: int, test: Fragment) -> Fragment:
        """Return the condition that a side-table row of the record, with this path, passes the test."""

    @abstractmethod
    def side_values(self, tenant: int, path: int, kind: FieldKind, rows: Fragment) -> Fragment:
        """Return the SELECT of the side-table values with this path. `rows` selects the ids of their records."""

    @abstractmethod
    def smallest_side_value(self, tenant: int, path: int, kind: FieldKind) -> Fragment:
        """Return the expression of the smallest side-table value of the record with this path."""
