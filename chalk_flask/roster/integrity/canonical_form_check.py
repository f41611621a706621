"""Check that a stored body is in canonical form: equal to `ResourceType.record` of its normalized values.

The full comparison in `CanonicalForm.problem` takes 40 microseconds for each record. `is_certainly_canonical` takes a
quarter of that. It returns True only for bodies that are certainly in canonical form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

import orjson
from marshmallow import ValidationError

from chalk_flask.oneroster.fields.composites import MetadataField, RefField, RefListField
from chalk_flask.oneroster.fields.scalars import JSON, OneRosterField
from chalk_flask.oneroster.resource_type import ResourceType

__all__ = ["CanonicalForm"]

MAX_CACHED_LAYOUTS = 10_000
ALWAYS_PRESENT = frozenset({"sourcedId", "status", "dateLastModified"})

# Ids that a URL contains without escaping (RFC 3986, section 2.3, unreserved characters).
_UNESCAPED_ID = re.compile(r"[A-Za-z0-9_.~-]{1,255}")

_HREF, _STORED_HREF = b'"href":"/', b'"href":"\\/'


class CanonicalForm:
    """Canonical form of the bodies of one class."""

    def __init__(self, resource_type: ResourceType) -> None:
        self._resource_type = resource_type
        self._required = ALWAYS_PRESENT | {name for name, element in resource_type.fields.items() if element.required}
        self._is_canonical = {name: _value_check(element) for name, element in resource_type.fields.items()}
        self._layouts: set[tuple[str, ...]] = set()

    def is_certainly_canonical(self, body: bytes, parsed: JSON) -> bool:
        """Return True if the body, which parses to `parsed`, is certainly in canonical form."""
        try:
            return (
                orjson.dumps(parsed).replace(_HREF, _STORED_HREF) == body
                and self._is_valid_layout(tuple(parsed))
                and all(self._is_canonical[name](value) for name, value in parsed.items())
            )
        except (AttributeError, KeyError, TypeError, ValueError, ValidationError):
            return False

    def problem(self, body: bytes) -> str | None:
        """Return why the body is not in canonical form, or None if it is."""
        try:
            data = self._resource_type.normalize(body)
        except ValidationError as error:
            return f"not in canonical form: {error.messages}"
        except ValueError as error:
            return f"not JSON: {error}"
        if missing := sorted(self._required - data.keys()):
            return f"not in canonical form: {', '.join(missing)} missing"
        if self._resource_type.record(data).body != body:
            return "not in canonical form: the same values are stored differently"
        return None

    def _is_valid_layout(self, names: tuple[str, ...]) -> bool:
        """Return True if a body can have these members in this order. Caches the few layouts that occur."""
        if names in self._layouts:
            return True
        present = set(names)
        is_valid = (
            names == tuple(name for name in self._resource_type.fields if name in present)
            and present >= self._required | set(self._resource_type.always_present)
            and all(
                name in present or element.fallback not in present
                for name, element in self._resource_type.fields.items()
            )
        )
        if is_valid and len(self._layouts) < MAX_CACHED_LAYOUTS:
            self._layouts.add(names)
        return is_valid


def _value_check(element: OneRosterField) -> Callable[[JSON], bool]:
    """Return a function that returns True if a value is exactly as the field would write it."""
    if isinstance(element, RefListField):
        is_canonical_item = _reference_check(element)
        can_be_empty = element.always_present
        return lambda value: (
            isinstance(value, list) and (can_be_empty or bool(value)) and all(map(is_canonical_item, value))
        )
    if isinstance(element, RefField):
        return _reference_check(element)
    if isinstance(element, MetadataField):
        # A metadata member that looks like the href of a reference is not escaped like one.
        return lambda value: isinstance(value, dict) and bool(value) and _HREF not in orjson.dumps(value)
    return _scalar_check(element)


def _reference_check(element: RefField) -> Callable[[JSON], bool]:
    def canonical(key: str) -> Mapping[str, str]:
        normalized = RefField.normalize(element, {"sourcedId": key})
        reference: Mapping[str, str] = orjson.loads(orjson.dumps(RefField.to_json(element, normalized)))
        return reference

    example = canonical("x")
    names, href_prefix, token = tuple(example), example["href"].removesuffix("x"), example["type"]

    def is_canonical(value: JSON) -> bool:
        key = value["sourcedId"]
        if tuple(value) != names:
            return False
        if _UNESCAPED_ID.fullmatch(key):
            return bool(value["href"] == href_prefix + key and value["type"] == token)
        return bool(value == canonical(key))

    return is_canonical


def _scalar_check(element: OneRosterField) -> Callable[[JSON], bool]:
    def is_normalized(value: str) -> bool:
        return value != "" and element.normalize(value) == value

    is_canonical_text = lru_cache(maxsize=16384)(is_normalized) if element.repeats else is_normalized

    def is_canonical(value: JSON) -> bool:
        if isinstance(value, str):
            return is_canonical_text(value)
        if value == [] and element.always_present:
            return True
        # Compare the bytes: 87 equals 87.0, and objects are equal regardless of the order of their members.
        return value not in (None, [], {}) and orjson.dumps(element.to_json(element.normalize(value))) == orjson.dumps(
            value
        )

    return is_canonical
