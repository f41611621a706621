"""Query parameters, from the raw query string to what is asked of storage (digest 4; design section 5).

Clients repeat themselves, so what a query string means is remembered for each route; an error is found again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlencode

from backends import KEY, MATCH_ALL, OrderBy, Where, and_
from chalk_flask.api.errors import ApiError
from chalk_flask.api.routes import GRADEBOOK_COLLECTIONS, ApiRoot, Route
from chalk_flask.oneroster import filters
from chalk_flask.oneroster.fields.scalars import printable
from chalk_flask.oneroster.relations import VISIBLE
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.permissions.policy import UNRESTRICTED, AccessPolicy

__all__ = ["ParameterWarning", "QueryParams", "parse_query_params"]

NAMES = ("limit", "offset", "sort", "orderBy", "filter", "fields")

REMEMBERED = 1024
"""The longest query string that is worth keeping."""

NAMED = 200
"""Characters of an unknown name that a warning repeats."""

_DIGITS = re.compile(r"[0-9]{1,18}")
_SHOWS_DELETED = frozenset({"status", "dateLastModified"})


@dataclass(frozen=True, slots=True)
class ParameterWarning:
    """A warning that goes with an answer: a parameter named what the class does not have."""

    minor: str
    description: str


@dataclass(frozen=True, slots=True)
class QueryParams:
    """What the parameters say. `fields` None is all of them; `others` is the query string without limit and offset."""

    where: Where = MATCH_ALL
    order: tuple[OrderBy, ...] = ()
    offset: int = 0
    limit: int | None = None
    fields: tuple[str, ...] | None = None
    warnings: tuple[ParameterWarning, ...] = ()
    other_params: str = ""


def parse_query_params(
    route: Route, root: ApiRoot, query: bytes, maximum: int, policy: AccessPolicy = UNRESTRICTED
) -> QueryParams:
    """What a query string means for a route under a root; a `maximum` of 0 is none. Raises Problem (400).

    To a limited bearer redacted fields are unknown.
    """
    read = _remembered if len(query) <= REMEMBERED else _asked
    return read(route, root, query, maximum, policy)


def _asked(route: Route, root: ApiRoot, query: bytes, maximum: int, seen_by: AccessPolicy) -> QueryParams:
    # Bytes that are not UTF-8 become a character that no record holds.
    pairs = parse_qsl(query.decode(errors="replace"), keep_blank_values=True, errors="replace")
    given = _once(pairs, NAMES if route.is_collection else ("fields",))
    resource = seen_by.resource_type(route.resource.name)
    if not route.is_collection:
        fields, notices = _fields(given.get("fields"), resource)
        return QueryParams(_filter("", resource, seen_by), fields=fields, warnings=notices)
    limit, offset = _limit(given.get("limit"), root, maximum), _whole("offset", given.get("offset", "0"))
    where = _filter(given.get("filter", ""), resource, seen_by)
    order, unsorted = _order(given.get("sort", ""), given.get("orderBy", ""), resource, seen_by)
    fields, unselected = _fields(given.get("fields"), resource)
    return QueryParams(where, order, offset, limit, fields, unsorted + unselected, _others(pairs))


_remembered = lru_cache(maxsize=4096)(_asked)


def _once(pairs: list[tuple[str, str]], names: tuple[str, ...]) -> Mapping[str, str]:
    """The parameters of these names; others are none of ours."""
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise ApiError(400, f"{name} is given more than once.")
        if name in names:
            given[name] = value
    return given


def _limit(text: str | None, root: ApiRoot, maximum: int) -> int | None:
    if text is None:
        return min(root.limit, maximum or root.limit) or None
    limit = _whole("limit", text)
    if limit == 0:
        raise ApiError(400, "limit must be at least 1.")
    if maximum and limit > maximum:
        raise ApiError(400, f"limit must be at most {maximum} here.")
    return limit


def _whole(name: str, text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise ApiError(400, f"{name} must be a whole number of 1 to 18 digits, not {printable(text)}.")
    return int(text)


def _filter(text: str, resource: ResourceType, seen_by: AccessPolicy) -> Where:
    """The filter, and that deleted gradebook objects are hidden unless it asks after them (reading A-04)."""
    wanted = _parsed(text)
    hides = resource.name in GRADEBOOK_COLLECTIONS
    if wanted is None:
        return VISIBLE if hides else MATCH_ALL
    try:
        where = filters.compile_filter(wanted, resource)
    except filters.FilterError as error:
        raise ApiError(400, str(error), "invalid_filter_field" if error.unknown_field else "") from error
    if seen_by is not UNRESTRICTED:
        where = seen_by.restrict_filter(where, resource.name)
    return and_(VISIBLE, where) if hides and wanted.fields.isdisjoint(_SHOWS_DELETED) else where


def _parsed(text: str) -> filters.Filter | None:
    try:
        return filters.parse_filter(text)
    except filters.FilterError as error:
        raise ApiError(400, str(error)) from error


def _order(
    name: str, direction: str, resource: ResourceType, seen_by: AccessPolicy
) -> tuple[tuple[OrderBy, ...], tuple[ParameterWarning, ...]]:
    if direction.lower() not in ("", "asc", "desc"):
        raise ApiError(400, f"orderBy must be asc or desc, not {printable(direction)}.")
    descending, name = direction.lower() == "desc", name.strip()
    if not name:
        return (OrderBy(KEY, descending=True),) if descending else (), ()
    path = resource.filter_path(name)
    # By a reference that may lead to what is hidden nobody sorts either: the order would tell its id.
    if path is None or path.field in seen_by.hideable_references(resource.name):
        return (), (ParameterWarning("invalid_sort_field", name[:NAMED]),)
    return (OrderBy(path.ordered_by or path.field, descending),), ()


def _fields(text: str | None, resource: ResourceType) -> tuple[tuple[str, ...] | None, tuple[ParameterWarning, ...]]:
    """The selected members in the order of the record; one unknown name selects everything (digest 4.5)."""
    if text is None:
        return None, ()
    names = {name for part in text.split(",") if (name := part.strip())}
    if not names:
        raise ApiError(400, "fields names no field.", "invalid_blank_selection_field")
    if unknown := sorted(names - resource.fields.keys()):
        return None, (ParameterWarning("invalid_selection_field", ", ".join(unknown)[:NAMED]),)
    return tuple(name for name in resource.fields if name in names), ()


def _others(pairs: list[tuple[str, str]]) -> str:
    return urlencode([pair for pair in pairs if pair[0] not in ("limit", "offset")], quote_via=quote, safe="")


def link_header(url: str, asked: QueryParams, total: int) -> str:
    """first, prev, next and last of a page whose size is known: absolute, with every other parameter kept."""
    limit, offset = asked.limit or 1, asked.offset
    last = max(total - 1, 0) // limit * limit
    # From beyond the end one page back is still beyond it, as far as the reader knows: arithmetic, not a search.
    steps = [("first", 0), ("prev", max(0, offset - limit)), ("next", offset + limit), ("last", last)]
    others = f"{asked.other_params}&" if asked.other_params else ""
    return ", ".join(
        f'<{url}?{others}limit={limit}&offset={start}>; rel="{name}"'
        for name, start in steps
        if not (name == "prev" and offset == 0) and not (name == "next" and start >= total)
    )
