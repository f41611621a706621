"""Query parameters of reads, parsed from the raw query string into a condition, an order, a page and fields.

Clients repeat their query strings, so parsed parameters are cached. Errors are not cached.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlencode

from backends import KEY, MATCH_ALL, OrderBy, Where, and_
from chalk_flask.api.errors import ApiError
from chalk_flask.api.routes import GRADEBOOK_COLLECTIONS, ApiRoot, ReadRoute
from chalk_flask.oneroster import filters
from chalk_flask.oneroster.fields.scalars import printable
from chalk_flask.oneroster.relations import NOT_DELETED
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.permissions.policy import UNRESTRICTED, AccessPolicy

__all__ = ["ParameterWarning", "QueryParams", "link_header", "parse_query_params"]

COLLECTION_PARAMETERS = ("limit", "offset", "sort", "orderBy", "filter", "fields")
SINGLE_PARAMETERS = ("fields",)

MAX_CACHED_QUERY_BYTES = 1024
"""Maximum length of a query string that is cached."""

MAX_LINK_BYTES = 7 * 1024
"""Maximum size of the Link header. Many clients and proxies reject a response with more than 8 KiB of headers."""

MAX_QUOTED_CHARACTERS = 200
"""Maximum number of characters of an unknown name that a warning quotes."""

_DIGITS = re.compile(r"[0-9]{1,18}")
_OFFSET = re.compile(rb"(?:^|&)offset=([0-9]{1,18})(?=&|$)")
_ESCAPED_NAME = re.compile(rb"(?:^|&)[^=&%]*%")
_DIRECTIONS = ("", "asc", "acs", "desc")
"""Values of `orderBy`. A published OpenAPI file of OneRoster spells asc as acs (docs/conformance, Q-16)."""
_FIELDS_THAT_SELECT_DELETED = frozenset({"status", "dateLastModified"})


@dataclass(frozen=True, slots=True)
class ParameterWarning:
    """Warning in a successful response: a parameter names a field that does not exist."""

    code_minor: str
    description: str


@dataclass(frozen=True, slots=True)
class QueryParams:
    """Parsed query parameters.

    `fields` None selects all fields. `other_params` is the query string without `limit` and `offset`.
    """

    where: Where = MATCH_ALL
    order: tuple[OrderBy, ...] = ()
    offset: int = 0
    limit: int | None = None
    fields: tuple[str, ...] | None = None
    warnings: tuple[ParameterWarning, ...] = ()
    other_params: str = ""


def parse_query_params(
    route: ReadRoute, root: ApiRoot, query: bytes, max_limit: int, policy: AccessPolicy = UNRESTRICTED
) -> QueryParams:
    """Parse the query string of a route under a root. A `max_limit` of 0 means no maximum.

    Fields that the policy redacts are unknown. Raises ApiError (400) for invalid parameters.
    """
    if len(query) > MAX_CACHED_QUERY_BYTES:
        return _parse(route, root, query, max_limit, policy)
    offset = _OFFSET.search(query) if route.is_collection else None
    if offset is None:
        return _parse_cached(route, root, query, max_limit, policy)
    # A client that reads a collection page by page repeats its query with other offsets, so they are not cached.
    rest = query[: offset.start()] + query[offset.end() :]
    if b"offset" in rest or _ESCAPED_NAME.search(rest):
        return _parse_cached(route, root, query, max_limit, policy)
    cached = _parse_cached(route, root, rest, max_limit, policy)
    return QueryParams(
        cached.where, cached.order, int(offset[1]), cached.limit, cached.fields, cached.warnings, cached.other_params
    )


def _parse(route: ReadRoute, root: ApiRoot, query: bytes, max_limit: int, policy: AccessPolicy) -> QueryParams:
    # Bytes that are not UTF-8 become a character that no record contains.
    pairs = parse_qsl(query.decode(errors="replace"), keep_blank_values=True, errors="replace")
    params = _unique(pairs, COLLECTION_PARAMETERS if route.is_collection else SINGLE_PARAMETERS)
    resource_type = policy.resource_type(route.resource_type.name)
    if not route.is_collection:
        fields, warnings = _parse_fields(params.get("fields"), resource_type)
        return QueryParams(_parse_filter("", resource_type, policy), fields=fields, warnings=warnings)
    limit = _parse_limit(params.get("limit", ""), root, max_limit)
    offset = _parse_whole_number("offset", params.get("offset") or "0")
    where = _parse_filter(params.get("filter", ""), resource_type, policy)
    order, sort_warnings = _parse_order(params.get("sort", ""), params.get("orderBy", ""), resource_type, policy)
    fields, field_warnings = _parse_fields(params.get("fields"), resource_type)
    return QueryParams(where, order, offset, limit, fields, sort_warnings + field_warnings, _other_params(pairs))


_parse_cached = lru_cache(maxsize=4096)(_parse)


def _unique(pairs: list[tuple[str, str]], names: tuple[str, ...]) -> Mapping[str, str]:
    """Return the parameters of these names. Other parameters are ignored (docs/conformance, Q-04)."""
    params: dict[str, str] = {}
    for name, value in pairs:
        if name in params:
            raise ApiError(400, f"The parameter {name} is repeated. Send it once.")
        if name in names:
            params[name] = value
    return params


def _parse_limit(text: str, root: ApiRoot, max_limit: int) -> int | None:
    if not text:
        return min(root.default_limit, max_limit or root.default_limit) or None
    limit = _parse_whole_number("limit", text)
    if limit == 0:
        raise ApiError(400, "limit must be at least 1, not 0.")
    if max_limit and limit > max_limit:
        raise ApiError(400, f"limit must be at most {max_limit}, not {limit}.")
    return limit


def _parse_whole_number(name: str, text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise ApiError(400, f"{name} must be a whole number of 1 to 18 digits, not {printable(text)}.")
    return int(text)


def _parse_filter(text: str, resource_type: ResourceType, policy: AccessPolicy) -> Where:
    """Return the condition of a filter.

    Deleted gradebook objects are excluded unless the filter names a field that selects them (docs/conformance,
    A-04).
    """
    parsed = _parse_filter_text(text)
    excludes_deleted = resource_type.name in GRADEBOOK_COLLECTIONS
    if parsed is None:
        return NOT_DELETED if excludes_deleted else MATCH_ALL
    try:
        where = filters.compile_filter(parsed, resource_type)
    except filters.FilterError as error:
        raise ApiError(400, str(error), "invalid_filter_field" if error.unknown_field else "") from error
    if policy is not UNRESTRICTED:
        where = policy.restrict_filter(where, resource_type.name)
    if excludes_deleted and parsed.fields.isdisjoint(_FIELDS_THAT_SELECT_DELETED):
        return and_(NOT_DELETED, where)
    return where


def _parse_filter_text(text: str) -> filters.Filter | None:
    try:
        return filters.parse_filter(text)
    except filters.FilterError as error:
        raise ApiError(400, str(error)) from error


def _parse_order(
    name: str, direction: str, resource_type: ResourceType, policy: AccessPolicy
) -> tuple[tuple[OrderBy, ...], tuple[ParameterWarning, ...]]:
    if direction.lower() not in _DIRECTIONS:
        raise ApiError(400, f"orderBy must be asc or desc, not {printable(direction)}.")
    descending, name = direction.lower() == "desc", name.strip()
    if not name:
        return (OrderBy(KEY, descending=True),) if descending else (), ()
    path = resource_type.filter_path(name)
    # The order of references to hidden records would reveal their ids (docs/conformance, L-05).
    if path is None or not policy.can_sort_by(resource_type.name, path.field):
        return (), (ParameterWarning("invalid_sort_field", name[:MAX_QUOTED_CHARACTERS]),)
    return (OrderBy(path.order_field or path.field, descending),), ()


def _parse_fields(
    text: str | None, resource_type: ResourceType
) -> tuple[tuple[str, ...] | None, tuple[ParameterWarning, ...]]:
    """Return the selected fields in the order of the record.

    An unknown name selects all fields and adds a warning (docs/conformance, A-03 and Q-17).
    """
    if text is None:
        return None, ()
    names = {name for part in text.split(",") if (name := part.strip())}
    if not names:
        raise ApiError(400, "fields must name at least one field.", "invalid_blank_selection_field")
    if unknown := sorted(names - resource_type.fields.keys()):
        return None, (ParameterWarning("invalid_selection_field", ", ".join(unknown)[:MAX_QUOTED_CHARACTERS]),)
    return tuple(name for name in resource_type.fields if name in names), ()


def _other_params(pairs: list[tuple[str, str]]) -> str:
    return urlencode([pair for pair in pairs if pair[0] not in ("limit", "offset")], quote_via=quote, safe="")


def link_header(url: str, params: QueryParams, total: int) -> str:
    """Return the Link header of a page: absolute `first`, `prev`, `next` and `last` links with all other parameters.

    Relations that do not fit into MAX_LINK_BYTES are left out. Raises ApiError (400) if `next` does not fit, because a
    client that follows it would take the page for the last one (docs/conformance, Q-24).
    """
    limit, offset = params.limit or 1, params.offset
    last = max(total - 1, 0) // limit * limit
    # `prev` is plain arithmetic: from far beyond the end it still leads beyond the end.
    starts = [("first", 0), ("prev", max(0, offset - limit)), ("next", offset + limit), ("last", last)]
    others = f"{params.other_params}&" if params.other_params else ""
    links = {
        relation: f'<{url}?{others}limit={limit}&offset={start}>; rel="{relation}"'
        for relation, start in starts
        if not (relation == "prev" and offset == 0) and not (relation == "next" and start >= total)
    }
    header = ", ".join(links.values())
    return header if len(header) <= MAX_LINK_BYTES else _short_link_header(links)


def _short_link_header(links: Mapping[str, str]) -> str:
    """Return the links that fit, the most useful ones first."""
    if len(links.get("next", "")) > MAX_LINK_BYTES:
        raise ApiError(
            400,
            f"The query is too long for the URL of the next page, which would have {len(links['next'])} bytes in the"
            f" Link header; at most {MAX_LINK_BYTES} are possible. Compare with fewer values in filter, or request"
            " everything on one page with a larger limit.",
        )
    kept: dict[str, str] = {}
    for relation in ("next", "prev", "first", "last"):
        if relation in links and len(", ".join([*kept.values(), links[relation]])) <= MAX_LINK_BYTES:
            kept[relation] = links[relation]
    return ", ".join(link for relation, link in links.items() if relation in kept)
