"""SQL of PostgreSQL.

The rows of a tenant are in one partition of each partitioned table. Statements name the partition, because the planner
then takes less time, and locks one table instead of all partitions.

The side table `_many(_m_tenant, _m_path, _m_id, _m_key, _m_text, _m_number)` has the values of multi-valued and
dynamic fields. Its index of values ends with the key of the record, so it gives the records of a value in key order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backends.postgresql.text import encode_text, identifier, partition_name
from backends.query import FOLDED_KEY, KEY, Scalar
from backends.sql.dialect import Dialect, FieldKind, Fragment

__all__ = ["SIDE_TABLE", "PostgreSQLDialect"]

SIDE_TABLE = "_many"


class PostgreSQLDialect(Dialect):
    """Dialect of PostgreSQL for the tenants of one partition. A tuple among the parameters is an array.

    `partitioned` are the names of the partitioned tables. A negative partition selects the tables themselves.
    """

    max_depth = 10  # the planner merges nested statements, and takes long for many of them

    def __init__(self, partition: int, partitioned: frozenset[str]) -> None:
        self._tables = {name: identifier(partition_name(name, partition)) for name in partitioned if partition >= 0}
        self.side_table = self.table(SIDE_TABLE)

    def table(self, collection: str) -> str:
        """Return the quoted name of the table or partition of a collection."""
        return self._tables.get(collection) or identifier(collection)

    def column(self, path: str) -> str:
        """Return the quoted column name of a scalar field, or the expression of a reserved one."""
        if path == KEY:
            return '"_key"'
        return 'coalesce("_folded", "_key")' if path == FOLDED_KEY else identifier(path)

    def side_column(self, kind: FieldKind) -> str:
        """Return the column of the side table with the values of a kind."""
        return "_m_number" if kind == "number" else "_m_text"

    def param(self, value: Scalar) -> Any:
        """Return the parameter for a value."""
        return encode_text(value) if isinstance(value, str) else float(value)

    def test(self, column: str, operator: str) -> str:
        """Return the comparison of a column with a parameter."""
        return f"strpos({column}, ?) > 0" if operator == "~" else f"{column} {operator} ?"

    def is_one_of(self, column: str, values: Sequence[Any]) -> Fragment:
        """Return the condition with one array as parameter."""
        if len(values) == 1:
            return Fragment(f"{column} = ?", (values[0],))
        return Fragment(f"{column} = ANY (?)", (tuple(values),))

    def negation(self, condition: str) -> str:
        """Return the condition that is true if the other one is false or NULL."""
        return f"({condition}) IS NOT TRUE"

    def in_subtree(self, name: str) -> str:
        """Return the condition that `_id` is in a common table expression."""
        return f"_id IN (SELECT _id FROM {name})"

    def has_side_value(self, tenant: int, path: int, test: Fragment) -> Fragment:
        """Return the condition that a side-table row of the record passes the test."""
        text = f"_id IN (SELECT _m_id FROM {self.side_table} WHERE _m_tenant = ? AND _m_path = ? AND {test.text})"
        return Fragment(text, (tenant, path, *test.params))

    def side_values(self, tenant: int, path: int, kind: FieldKind, rows: Fragment) -> Fragment:
        """Return the SELECT of the values."""
        table, column = self.side_table, self.side_column(kind)
        text = f"SELECT {column} FROM {table} WHERE _m_tenant = ? AND _m_path = ? AND _m_id IN ({rows.text})"
        return Fragment(text, (tenant, path, *rows.params))

    def smallest_side_value(self, tenant: int, path: int, kind: FieldKind) -> Fragment:
        """Return the expression of the smallest value."""
        column = self.side_column(kind)
        text = f"(SELECT min({column}) FROM {self.side_table} WHERE _m_tenant = ? AND _m_id = _id AND _m_path = ?)"
        return Fragment(text, (tenant, path))
