"""Pages that are read from the side table, whose index has the records of a value in the order of their keys."""

from __future__ import annotations

from backends.postgresql.dialect import PostgreSQLDialect
from backends.query import And, Compare, In, Scalar, Where
from backends.records import Collection
from backends.sql.compiler import Compiler, PathIds
from backends.sql.conditions import conjuncts
from backends.sql.dialect import Fragment

__all__ = ["side_table_rows"]


def side_table_rows(
    dialect: PostgreSQLDialect, compiler: Compiler, owner: Collection, where: Where, path_id: PathIds, tenant: int
) -> Fragment | None:
    """Return `FROM ... WHERE ...` of the matching rows of the side table, which have the key in `_m_key`.

    Returns None unless a term of the condition compares a multi-valued field with one value for equality.
    """
    terms = tuple(conjuncts(where))
    for index, term in enumerate(terms):
        value = _single_value(term)
        if value is not None and isinstance(term, Compare | In) and not owner.field_for(term.field).is_scalar:
            column = dialect.side_column(owner.field_for(term.field).kind)
            test = f"_m_tenant = ? AND _m_path = ? AND {column} = ?"
            params = (tenant, path_id(owner.name, term.field), dialect.param(value))
            rest = And(terms[:index] + terms[index + 1 :])
            if not rest.terms:
                return Fragment(f"FROM {dialect.side_table} WHERE {test}", params)
            others = compiler.from_where(owner, rest)
            _, _, condition = others.text.partition(" WHERE ")
            join = f"JOIN {dialect.table(owner.name)} ON _tenant = _m_tenant AND _key = _m_key"
            return Fragment(f"FROM {dialect.side_table} {join} WHERE {test} AND {condition}", (*params, *others.params))
    return None


def _single_value(term: Where) -> Scalar | None:
    match term:
        case Compare(_, "=", value):
            return value
        case In(_, (value,)):
            return value
    return None
