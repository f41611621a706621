"""Checks that every backend applies to URLs, queries and records before it uses them."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection as Items
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from backends.errors import InvalidQueryError, InvalidStorageURLError
from backends.query import FOLDED_KEY, KEY, MAX_SUBSTRING_LENGTH, Compare, In, Query, Scalar, Where, leaf_conditions
from backends.records import MAX_DYNAMIC_PATH_LENGTH, MAX_DYNAMIC_VALUES, Collection, Field, Record, Value

__all__ = [
    "check_dynamic_values",
    "check_record",
    "check_text",
    "file_path",
    "get_collection",
    "validate",
    "validate_where",
]

_MAY_HAVE_PASSWORD = re.compile(r"//[^/].*@|[?#;].*=")
"""Part of a URL with a user name or a parameter. No error quotes a URL with one."""

_FILE_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:///([^?#]+)")


def file_path(url: str) -> Path:
    """Return the percent-decoded path of a `scheme:///path` URL.

    Three slashes start a path relative to the working directory, four an absolute one
    (`sqlite:////var/lib/chalk/chalk.db`). Raises InvalidStorageURLError for any other form.
    """
    scheme = url.partition(":")[0]
    match = _FILE_URL.fullmatch(url)
    if not match:
        raise InvalidStorageURLError(
            f"{_shown(url)} names no file: write {scheme}:///relative/path or {scheme}:////absolute/path"
            " (write ? and # in a name as %3F and %23)"
        )
    try:
        path = unquote(match[1], errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidStorageURLError(f"{_shown(url)} is invalid: after percent-decoding it is not UTF-8") from error
    if "\0" in path:
        raise InvalidStorageURLError(f"{_shown(url)} is invalid: a file name cannot contain a NUL character")
    return Path(path)


def validate(query: Query, collections: Mapping[str, Collection]) -> Collection:
    """Return the query's collection. Raises InvalidQueryError for undeclared names or an invalid page."""
    owner = get_collection(query.collection, collections)
    if min(query.offset, query.limit or 0, query.max_total or 0) < 0:
        numbers = f"offset {query.offset}, limit {query.limit} and max_total {query.max_total}"
        raise InvalidQueryError(f"{numbers} must not be negative")
    for order in query.order:
        _field(order.field, owner)
    validate_where(query.where, owner, collections)
    return owner


def validate_where(where: Where, owner: Collection, collections: Mapping[str, Collection]) -> None:
    """Raise InvalidQueryError unless every leaf names a declared field and compares it with values of its type."""
    for name, leaf in leaf_conditions(where):
        _check_leaf(leaf, owner if name is None else get_collection(name, collections), collections)


def get_collection(name: str, collections: Mapping[str, Collection]) -> Collection:
    """Return the collection with this name. Raises InvalidQueryError for an undeclared one."""
    try:
        return collections[name]
    except KeyError:
        raise InvalidQueryError(f"there is no collection {name!r}") from None


def _field(path: str, owner: Collection) -> Field:
    field = owner.field_for(path)
    check_text(path)  # a dynamic field accepts any suffix
    return field


def _check_leaf(leaf: Compare | In, owner: Collection, collections: Mapping[str, Collection]) -> None:
    field = _field(leaf.field, owner)
    if isinstance(leaf, Compare):
        values: tuple[Scalar, ...] = (leaf.value,)
        if leaf.operator == "~":
            _check_substring(leaf.value, field)
    elif isinstance(leaf.values, tuple):
        values = leaf.values
    else:
        values = ()
        other = get_collection(leaf.values.collection, collections).field_for(leaf.values.field)
        if other.kind != field.kind:
            raise InvalidQueryError(
                f"field {field.path!r} ({field.kind}) cannot be compared with {other.path!r} ({other.kind})"
            )
    for value in values:
        _check_value(value, field)


def _check_substring(value: Scalar, field: Field) -> None:
    """Raise InvalidQueryError unless the field holds text, and a search for the value takes a limited time."""
    if field.kind == "number":
        raise InvalidQueryError(f"field {field.path!r} holds numbers: the operator '~' requires text")
    if isinstance(value, str) and len(value) > MAX_SUBSTRING_LENGTH:
        raise InvalidQueryError(
            f"the value for field {field.path!r} has {len(value)} characters:"
            f" with '~' at most {MAX_SUBSTRING_LENGTH} are allowed"
        )


def _check_value(value: Scalar, field: Field) -> None:
    """Raise InvalidQueryError unless the value has the field's type and every backend can compare it."""
    kinds: tuple[type, ...] = (int, float) if field.kind == "number" else (str,)
    if not isinstance(value, kinds):
        raise InvalidQueryError(f"field {field.path!r} holds {field.kind}: it cannot be compared with {value!r}")
    if isinstance(value, str):
        check_text(value)
    elif value != value or (isinstance(value, int) and abs(value) > sys.float_info.max):
        raise InvalidQueryError(f"field {field.path!r} holds numbers: {value!r} is not a number that a float can hold")


def check_text(value: str) -> None:
    """Raise InvalidQueryError for text that cannot be encoded as UTF-8 (lone surrogates)."""
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidQueryError(f"{value!r} cannot be encoded as UTF-8") from None


def check_record(record: Record, owner: Collection) -> None:
    """Raise InvalidQueryError unless every backend can store the record.

    Values must have declared paths and the field's type. Those of dynamic fields are limited in number and in the
    length of their paths. The body must be a single line without tabs.
    """
    check_text(record.key)
    if not record.body or b"\n" in record.body or b"\r" in record.body or b"\t" in record.body:
        raise InvalidQueryError(
            f"the body of {record.key!r} is empty or contains a raw line break or tab: encode it compactly"
        )
    for path in (KEY, FOLDED_KEY):
        if path in record.values:
            raise InvalidQueryError(f"{path!r} is the record's key and cannot be a path of its values")
    fields = owner.fields_by_path
    if dynamic := record.values.keys() - fields.keys():
        check_dynamic_values(record.key, record.values, dynamic)
    for path, value in record.values.items():
        field = fields.get(path) or _field(path, owner)
        # An import puts millions of values, most of them ASCII text: the common case skips the function calls.
        if type(value) is str and field.kind == "text" and value.isascii():
            continue
        if isinstance(value, tuple):
            _check_many(value, field)
        elif value is not None:
            _check_single(value, field)


def check_dynamic_values(key: str, values: Mapping[str, Value], paths: Items[str]) -> None:
    """Raise InvalidQueryError if the values of the dynamic `paths` exceed the limits of a record."""
    count = sum(len(value) if isinstance(value := values[path], tuple) else value is not None for path in paths)
    if count > MAX_DYNAMIC_VALUES:
        raise InvalidQueryError(
            f"the record {key!r} has {count} values in dynamic fields: at most {MAX_DYNAMIC_VALUES} are allowed"
        )
    if (length := sum(map(len, paths))) > MAX_DYNAMIC_PATH_LENGTH:
        raise InvalidQueryError(
            f"the paths of the record {key!r} in dynamic fields have {length} characters:"
            f" at most {MAX_DYNAMIC_PATH_LENGTH} are allowed"
        )


def _check_many(values: tuple[Scalar, ...], field: Field) -> None:
    if field.is_scalar:
        raise InvalidQueryError(f"field {field.path!r} holds one value, not {values!r}")
    for value in values:
        if not (type(value) is str and field.kind == "text" and value.isascii()):
            _check_single(value, field)


def _check_single(value: Scalar, field: Field) -> None:
    _check_value(value, field)
    if isinstance(value, float) and math.isinf(value):
        raise InvalidQueryError(f"field {field.path!r} cannot store {value!r}: JSON has no such number")


def _shown(url: str) -> str:
    """Return a storage URL for a message, or only its scheme if it may contain a password."""
    return f"the {url.partition(':')[0]} URL" if _MAY_HAVE_PASSWORD.search(url) else repr(url)
