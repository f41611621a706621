"""Filter language of OneRoster 1.1: parse a text into clauses, compile clauses into a condition.

filter = clause [ SP ("AND" / "OR") SP clause ]
clause = field predicate "'" value "'"

Double quotes around a value are accepted too (docs/conformance, Q-07).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from backends import MATCH_ALL, MATCH_NONE, MAX_SUBSTRING_LENGTH, And, Compare, Not, Operator, Or, Where
from chalk_flask.oneroster.fields.base import FilterPath, ValueType, fold, printable
from chalk_flask.oneroster.fields.composites import split_list
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.vocabularies import TRUTH, parse_date, parse_date_time, parse_number

__all__ = ["Clause", "Filter", "FilterError", "compile_filter", "parse_filter"]

Predicate: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "~"]

MAX_VALUES = 100
"""Maximum number of values in a comparison with a multi-valued field. Databases limit the length of conditions."""

MAX_SEARCHED_LENGTH = MAX_SUBSTRING_LENGTH // 3
"""Maximum length in characters of a value of `~`. Case folding makes a text at most three times as long."""

_CLAUSE = re.compile(r"([A-Za-z][\w:-]*(?:\.[\w:-]+)*)\s*(!=|>=|<=|=|>|<|~)\s*")
_LOGICAL_OPERATOR = re.compile(r" (AND|OR) (?=\S)")
# Text that can only be a further clause after a value in these quotes, even if the word before it is not AND or OR.
_NEXT_CLAUSE = {
    quote: re.compile(
        rf"\s+(?:and|or)\s+{_CLAUSE.pattern}|[^\w{quote}]*(?:\w+[^\w{quote}]+)?{_CLAUSE.pattern}{quote}", re.IGNORECASE
    )
    for quote in ("'", '"')
}
_UNKNOWN_PREDICATE = re.compile(r"\s*[=!<>~]+")
"""Rest of a predicate of another language, such as `==` or `<>`, after the part that is a predicate."""
_BARE_VALUE = re.compile(r"[^\s'\"]+")


class FilterError(Exception):
    """Error of an invalid filter. `unknown_field` is True if the resource type has no such field."""

    def __init__(self, message: str, unknown_field: bool = False) -> None:
        super().__init__(message)
        self.unknown_field = unknown_field


@dataclass(frozen=True, slots=True)
class Clause:
    """Comparison of a field with a value. The value is without quotes."""

    field: str
    predicate: Predicate
    value: str


@dataclass(frozen=True, slots=True)
class Filter:
    """One clause, or two clauses and the logical operator between them."""

    clauses: tuple[Clause, ...]
    logical: Literal["AND", "OR"] = "AND"

    @property
    def fields(self) -> frozenset[str]:
        """Fields of the clauses."""
        return frozenset(clause.field for clause in self.clauses)


def parse_filter(text: str) -> Filter | None:
    """Return the clauses of a filter text, or None if it is blank. Raises FilterError if it is malformed.

    A quote inside a value is doubled. A single quote is accepted too if the text after it cannot follow a value.
    """
    text = text.strip()
    if not text:
        return None
    first, rest = _parse_clause(text)
    if not rest:
        return Filter((first,))
    logical = _LOGICAL_OPERATOR.match(rest)
    if not logical:
        raise FilterError(
            f"{printable(rest)} cannot follow the first clause: write AND or OR in capitals, between single spaces"
        )
    second, rest = _parse_clause(rest[logical.end() :])
    if rest:
        raise FilterError(f"{printable(rest)} is a third clause: a filter has at most two clauses")
    return Filter((first, second), cast('Literal["AND", "OR"]', logical[1]))


def compile_filter(parsed: Filter, resource_type: ResourceType) -> Where:
    """Return the filter as a condition on the records of the resource type.

    Raises FilterError for an unknown field and for a value that is invalid for the type of the field.
    """
    terms = tuple(_compile_clause(clause, resource_type) for clause in parsed.clauses)
    if len(terms) == 1:
        return terms[0]
    return And(terms) if parsed.logical == "AND" else Or(terms)


def _parse_clause(text: str) -> tuple[Clause, str]:
    """Return the clause at the start of the text, and the rest of the text."""
    head = _CLAUSE.match(text)
    if not head:
        raise FilterError(f"{printable(text)} is not a filter: write field='value', with = != < <= > >= or ~")
    if rest := _UNKNOWN_PREDICATE.match(text, head.end()):
        predicate = text[head.start(2) : rest.end()]
        raise FilterError(f"{printable(predicate)} is not a predicate: write one of = != < <= > >= ~")
    quote = text[head.end() : head.end() + 1]
    value, end = (
        _parse_quoted_value(text, head.end() + 1, quote)
        if quote in _NEXT_CLAUSE
        else _parse_bare_value(text, head.end())
    )
    return Clause(head[1], cast(Predicate, head[2]), value), text[end:]


def _parse_quoted_value(text: str, start: int, quote: str) -> tuple[str, int]:
    """Return the value in these quotes that starts at `start`, and the position after its closing quote."""
    value: list[str] = []
    position = start
    while (end := text.find(quote, position)) >= 0:
        value.append(text[position:end])
        position = end + 1
        if text.startswith(quote, position):
            position += 1
        elif position == len(text) or _NEXT_CLAUSE[quote].match(text, position):
            return "".join(value), position
        value.append(quote)
    kind = "single" if quote == "'" else "double"
    raise FilterError(
        f"the value {printable(text[start:])} does not end with a {kind} quote."
        " In a URL, write & as %26, # as %23 and + as %2B"
    )


def _parse_bare_value(text: str, start: int) -> tuple[str, int]:
    """Return a number or boolean without quotes, and the position after it."""
    match = _BARE_VALUE.match(text, start)
    if not match or not (match[0].lower() in TRUTH or _is_number(match[0])):
        raise FilterError(f"{printable(text[start:])} is not a value: write it in single quotes (')")
    return match[0], match.end()


def _is_number(text: str) -> bool:
    try:
        parse_number(text)
    except ValueError:
        return False
    return True


def _compile_clause(clause: Clause, resource_type: ResourceType) -> Where:
    path = _find_path(clause.field, resource_type)
    try:
        clause.value.encode()
    except UnicodeEncodeError:
        raise FilterError(f"the value of {clause.field} is not text in UTF-8") from None
    if clause.predicate == "~":
        _check_searched_values(path, clause.value)
    if clause.predicate == "!=":
        return _negate(_compare(path, "=", clause.value))
    return _compare(path, clause.predicate, clause.value)


def _check_searched_values(path: FilterPath, value: str) -> None:
    """Raise FilterError for a value that is too long to search for (docs/conformance, Q-23)."""
    length = max(map(len, split_list(value)), default=0) if path.multi_valued else len(value)
    if length > MAX_SEARCHED_LENGTH:
        raise FilterError(
            f"the value of {path.name} has {length} characters: with ~ at most {MAX_SEARCHED_LENGTH} are allowed"
        )


def _find_path(name: str, resource_type: ResourceType) -> FilterPath:
    if name in resource_type.ignored or (name.split(".")[-1] == "href" and not name.startswith("metadata.")):
        raise FilterError(f"{name} cannot be used in a filter")
    path = resource_type.filter_path(name)
    if path is None:
        raise FilterError(f"Unknown filter field: {name[:200]}{_case_hint(name, resource_type)}", unknown_field=True)
    return path


def _case_hint(name: str, resource_type: ResourceType) -> str:
    """Return a hint if the name differs from that of a field in letter case only, else an empty text."""
    spelled = next((known for known in resource_type.filter_paths if known.lower() == name.lower()), "")
    return f". Names are case-sensitive: write {spelled}." if resource_type.filter_path(spelled) else ""


def _negate(where: Where) -> Where:
    return MATCH_ALL if where == MATCH_NONE else Not(where)


def _compare(path: FilterPath, operator: Operator, value: str) -> Where:
    if path.multi_valued:
        return _compare_list(path, operator, value)
    value = _restore_plus(path, operator, value)
    if operator == "~":
        return Compare(path.text or path.field, "~", _fold_value(path, value))
    try:
        return _COMPARE_BY_TYPE[path.value_type](path, operator, value)
    except ValueError:
        raise FilterError(
            f"{printable(value)} is not a value for {path.name}: {_FORMAT_HINTS[path.value_type]}"
        ) from None


def _compare_list(path: FilterPath, operator: Operator, value: str) -> Where:
    """Compare a list: `=` requires every value, `~` any of them (docs/conformance, A-05)."""
    if operator not in ("=", "~"):
        return Compare(path.field, operator, _fold_value(path, value))
    items = dict.fromkeys(_fold_value(path, item) for item in split_list(value) or [""])
    if len(items) > MAX_VALUES:
        raise FilterError(f"{path.name} is compared with {len(items)} values: at most {MAX_VALUES} are allowed")
    terms = tuple(Compare(path.field, operator, item) for item in items)
    if len(terms) == 1:
        return terms[0]
    return And(terms) if operator == "=" else Or(terms)


def _fold_value(path: FilterPath, value: str) -> str:
    return value if path.value_type == "exact" else fold(value)


def _restore_plus(path: FilterPath, operator: Operator, value: str) -> str:
    """Return the value with the plus that a client did not encode, so that it arrived as a blank.

    No blank can occur in an e-mail address, or at the start of a telephone number (docs/conformance, Q-21).
    """
    if path.value_type == "email":
        return value.replace(" ", "+")
    if path.value_type == "phone" and operator != "~" and value.startswith(" "):
        return "+" + value[1:]
    return value


def _compare_text(path: FilterPath, operator: Operator, value: str) -> Where:
    return Compare(path.field, operator, _fold_value(path, value))


def _compare_date(path: FilterPath, operator: Operator, value: str) -> Where:
    """Compare dates. The time of a date-time is ignored."""
    if len(value) > 10:
        parse_date_time(value)
    return Compare(path.field, operator, parse_date(value[:10]))


def _compare_date_time(path: FilterPath, operator: Operator, value: str) -> Where:
    """Compare date-times. Stored ones have milliseconds, so a value between two of them equals none."""
    text, exact = parse_date_time(value)
    if not exact:
        if operator == "=":
            return MATCH_NONE
        operator = ">" if operator in (">", ">=") else "<="
    return Compare(path.field, operator, fold(text))


def _compare_number(path: FilterPath, operator: Operator, value: str) -> Where:
    return Compare(path.field, operator, parse_number(value))


def _compare_year(path: FilterPath, operator: Operator, value: str) -> Where:
    return (
        _compare_text(path, operator, value)
        if operator == "="
        else Compare(path.order_field, operator, parse_number(value))
    )


def _compare_boolean(path: FilterPath, operator: Operator, value: str) -> Where:
    if operator == "=" and value.lower() not in TRUTH:
        raise ValueError(value)
    return _compare_text(path, operator, value)


_COMPARE_BY_TYPE: dict[ValueType, Callable[[FilterPath, Operator, str], Where]] = {
    "text": _compare_text,
    "exact": _compare_text,
    "email": _compare_text,
    "phone": _compare_text,
    "date": _compare_date,
    "datetime": _compare_date_time,
    "number": _compare_number,
    "boolean": _compare_boolean,
    "year": _compare_year,
}

_FORMAT_HINTS: dict[ValueType, str] = {
    "date": "write YYYY-MM-DD",
    "datetime": "write YYYY-MM-DDTHH:MM:SS.sssZ or YYYY-MM-DD",
    "number": "write a base-10 number such as 87.5",
    "boolean": "write true or false",
    "year": "write a year such as 2025",
}
