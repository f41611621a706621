"""What a backend refuses before it starts: malformed URLs, queries and records. Every backend calls these."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from backends.errors import InvalidQueryError, InvalidStorageURLError
from backends.query import KEY, Compare, In, Key, Query, Where, leaf_conditions
from backends.records import Collection, Field, Record

__all__ = ["check_record", "check_text", "check_value", "file_path", "get_collection", "validate", "validate_where"]

_FILE_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:///([^?#]+)")


def file_path(url: str) -> Path:
    """The path in a `scheme:///path` URL, percent-decoded: three slashes are relative to the working directory, four
    absolute (`sqlite:////var/lib/chalk/chalk.db`). Raises InvalidStorageURLError for any other form."""
    scheme = url.partition(":")[0]
    match = _FILE_URL.fullmatch(url)
    if not match:
        raise InvalidStorageURLError(
            f"{url!r} names no file: write {scheme}:///relative/path or {scheme}:////absolute/path"
            " (%3F and %23 stand for ? and # in a name)"
        )
    try:
        path = unquote(match[1], errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidStorageURLError(f"{url!r} is not UTF-8 once it is percent-decoded") from error
    if "\0" in path:
        raise InvalidStorageURLError(f"{url!r} holds a NUL, which no file name can")
    return Path(path)


def validate(query: Query, collections: Mapping[str, Collection]) -> Collection:
    """The query's collection, once everything that the query names is known to be declared. Raises InvalidQueryError."""
    owner = get_collection(query.collection, collections)
    if query.offset < 0 or (query.limit is not None and query.limit < 0):
        raise InvalidQueryError(f"offset {query.offset} and limit {query.limit} must not be negative")
    for order in query.order:
        _field(order.field, owner)
    validate_where(query.where, owner, collections)
    return owner


def validate_where(where: Where, owner: Collection, collections: Mapping[str, Collection]) -> None:
    """Raises InvalidQueryError unless every leaf of the tree names a declared field and compares it with its own kind."""
    for name, leaf in leaf_conditions(where):
        _check_leaf(leaf, owner if name is None else get_collection(name, collections), collections)


def get_collection(name: str, collections: Mapping[str, Collection]) -> Collection:
    """The collection of that name. Raises InvalidQueryError."""
    try:
        return collections[name]
    except KeyError:
        raise InvalidQueryError(f"there is no collection {name!r}") from None


def _field(path: str, owner: Collection) -> Field:
    found = owner.field_for(path)
    check_text(path)  # under a dynamic field anything may stand in a path
    return found


def _check_leaf(leaf: Compare | In, owner: Collection, collections: Mapping[str, Collection]) -> None:
    field = _field(leaf.field, owner)
    if isinstance(leaf, Compare):
        asked: tuple[Key, ...] = (leaf.value,)
        if leaf.operator == "~" and field.kind == "number":
            raise InvalidQueryError(f"field {field.path!r} holds numbers: '~' is asked of text only")
    elif isinstance(leaf.values, tuple):
        asked = leaf.values
    else:
        asked = ()
        other = get_collection(leaf.values.collection, collections).field_for(leaf.values.field)
        if other.kind != field.kind:
            raise InvalidQueryError(
                f"field {field.path!r} holds {field.kind}: it is never among {other.path!r}, {other.kind}"
            )
    for value in asked:
        check_value(value, field)


def check_value(value: Key, field: Field) -> None:
    """Raises InvalidQueryError unless the value is of the field's kind and every backend can compare it."""
    kinds: tuple[type, ...] = (int, float) if field.kind == "number" else (str,)
    if not isinstance(value, kinds):
        raise InvalidQueryError(f"field {field.path!r} holds {field.kind}: it cannot be compared with {value!r}")
    if isinstance(value, str):
        check_text(value)
    elif value != value or (isinstance(value, int) and abs(value) > sys.float_info.max):
        raise InvalidQueryError(f"field {field.path!r} holds numbers: {value!r} is none that a float can hold")


def check_text(value: str) -> None:
    """Raises InvalidQueryError for text that has no UTF-8 form (lone surrogates): no backend could keep or compare it."""
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidQueryError(f"{value!r} cannot be written as UTF-8") from None


def check_record(record: Record, owner: Collection) -> None:
    """Raises InvalidQueryError when a record cannot be kept: values of an undeclared path or of the wrong kind, a body that
    would not stay one line."""
    check_text(record.key)
    if not record.body or b"\n" in record.body or b"\r" in record.body or b"\t" in record.body:
        raise InvalidQueryError(
            f"the body of {record.key!r} is empty or holds a raw line break or tab: encode it compactly"
        )
    if KEY in record.values:
        raise InvalidQueryError(f"{KEY!r} is the record's key and cannot be given as a value")
    fields = owner.fields_by_path
    for path, value in record.values.items():
        field = fields.get(path) or _field(path, owner)
        # An import puts millions of values: the plainest of them costs one line.
        if type(value) is str and field.kind == "text" and value.isascii():
            continue
        if isinstance(value, tuple):
            _check_many(value, field)
        elif value is not None:
            _check_single(value, field)


def _check_many(values: tuple[Key, ...], field: Field) -> None:
    if not (field.multi_valued or field.is_dynamic):
        raise InvalidQueryError(f"field {field.path!r} holds one value, not {values!r}")
    for value in values:
        if not (type(value) is str and field.kind == "text" and value.isascii()):
            _check_single(value, field)


def _check_single(value: Key, field: Field) -> None:
    check_value(value, field)
    if isinstance(value, float) and math.isinf(value):
        raise InvalidQueryError(f"field {field.path!r} cannot keep {value!r}: no JSON file could hold it")
