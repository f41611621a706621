"""Query parameters, from the raw query string to what is asked of storage (digest 4; design section 5).

Clients repeat themselves, so what a query string means is remembered for each route; an error is found again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlencode

from backends import EVERYTHING, KEY, Order, Where
from chalk_flask.api.errors import Problem
from chalk_flask.api.routes import GRADEBOOK_COLLECTIONS, Root, Route
from chalk_flask.oneroster import filters
from chalk_flask.oneroster.fields.scalars import shown
from chalk_flask.oneroster.relations import VISIBLE, both
from chalk_flask.oneroster.resource_type import Resource
from chalk_flask.permissions.policy import OPEN, Sight

__all__ = ["Asked", "Notice", "asked"]

NAMES = ("limit", "offset", "sort", "orderBy", "filter", "fields")

REMEMBERED = 1024
"""The longest query string that is worth keeping."""

NAMED = 200
"""Characters of an unknown name that a warning repeats."""

_DIGITS = re.compile(r"[0-9]{1,18}")
_SHOWS_DELETED = frozenset({"status", "dateLastModified"})


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning that goes with an answer: a parameter named what the class does not have."""

    minor: str
    description: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the parameters say. `fields` None is all of them; `others` is the query string without limit and offset."""

    where: Where = EVERYTHING
    order: tuple[Order, ...] = ()
    offset: int = 0
    limit: int | None = None
    fields: tuple[str, ...] | None = None
    notices: tuple[Notice, ...] = ()
    others: str = ""


def asked(route: Route, root: Root, query: bytes, maximum: int, seen_by: Sight = OPEN) -> Asked:
    """What a query string means for a route under a root; a `maximum` of 0 is none. Raises Problem (400).

    To a limited bearer redacted fields are unknown.
    """
    read = _remembered if len(query) <= REMEMBERED else _asked
    return read(route, root, query, maximum, seen_by)


def _asked(route: Route, root: Root, query: bytes, maximum: int, seen_by: Sight) -> Asked:
    # Bytes that are not UTF-8 become a character that no record holds.
    pairs = parse_qsl(query.decode(errors="replace"), keep_blank_values=True, errors="replace")
    given = _once(pairs, NAMES if route.many else ("fields",))
    resource = seen_by.resource(route.resource.name)
    if not route.many:
        fields, notices = _fields(given.get("fields"), resource)
        return Asked(_filter("", resource, seen_by), fields=fields, notices=notices)
    limit, offset = _limit(given.get("limit"), root, maximum), _whole("offset", given.get("offset", "0"))
    where = _filter(given.get("filter", ""), resource, seen_by)
    order, unsorted = _order(given.get("sort", ""), given.get("orderBy", ""), resource, seen_by)
    fields, unselected = _fields(given.get("fields"), resource)
    return Asked(where, order, offset, limit, fields, unsorted + unselected, _others(pairs))


_remembered = lru_cache(maxsize=4096)(_asked)


def _once(pairs: list[tuple[str, str]], names: tuple[str, ...]) -> Mapping[str, str]:
    """The parameters of these names; others are none of ours."""
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise Problem(400, f"{name} is given more than once.")
        if name in names:
            given[name] = value
    return given


def _limit(text: str | None, root: Root, maximum: int) -> int | None:
    if text is None:
        return min(root.limit, maximum or root.limit) or None
    limit = _whole("limit", text)
    if limit == 0:
        raise Problem(400, "limit must be at least 1.")
    if maximum and limit > maximum:
        raise Problem(400, f"limit must be at most {maximum} here.")
    return limit


def _whole(name: str, text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise Problem(400, f"{name} must be a whole number of 1 to 18 digits, not {shown(text)}.")
    return int(text)


def _filter(text: str, resource: Resource, seen_by: Sight) -> Where:
    """The filter, and that deleted gradebook objects are hidden unless it asks after them (reading A-04)."""
    wanted = _parsed(text)
    hides = resource.name in GRADEBOOK_COLLECTIONS
    if wanted is None:
        return VISIBLE if hides else EVERYTHING
    try:
        where = filters.condition(wanted, resource)
    except filters.FilterError as error:
        raise Problem(400, str(error), "invalid_filter_field" if error.unknown_field else "") from error
    if seen_by is not OPEN:
        where = seen_by.filtered(where, resource.name)
    return both(VISIBLE, where) if hides and wanted.fields.isdisjoint(_SHOWS_DELETED) else where


def _parsed(text: str) -> filters.Filter | None:
    try:
        return filters.parse(text)
    except filters.FilterError as error:
        raise Problem(400, str(error)) from error


def _order(
    name: str, direction: str, resource: Resource, seen_by: Sight
) -> tuple[tuple[Order, ...], tuple[Notice, ...]]:
    if direction.lower() not in ("", "asc", "desc"):
        raise Problem(400, f"orderBy must be asc or desc, not {shown(direction)}.")
    descending, name = direction.lower() == "desc", name.strip()
    if not name:
        return (Order(KEY, descending=True),) if descending else (), ()
    path = resource.path(name)
    # By a reference that may lead to what is hidden nobody sorts either: the order would tell its id.
    if path is None or path.field in seen_by.doubtful(resource.name):
        return (), (Notice("invalid_sort_field", name[:NAMED]),)
    return (Order(path.ordered_by or path.field, descending),), ()


def _fields(text: str | None, resource: Resource) -> tuple[tuple[str, ...] | None, tuple[Notice, ...]]:
    """The selected members in the order of the record; one unknown name selects everything (digest 4.5)."""
    if text is None:
        return None, ()
    names = {name for part in text.split(",") if (name := part.strip())}
    if not names:
        raise Problem(400, "fields names no field.", "invalid_blank_selection_field")
    if unknown := sorted(names - resource.elements.keys()):
        return None, (Notice("invalid_selection_field", ", ".join(unknown)[:NAMED]),)
    return tuple(name for name in resource.elements if name in names), ()


def _others(pairs: list[tuple[str, str]]) -> str:
    return urlencode([pair for pair in pairs if pair[0] not in ("limit", "offset")], quote_via=quote, safe="")
