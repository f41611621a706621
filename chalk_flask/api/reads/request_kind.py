"""Kinds of reads that are usually short: single objects, and pages. The server loop runs them if they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalk_flask.api.routes import READ_ROUTES, ROOTS

if TYPE_CHECKING:
    from chalk_flask.server.short_requests import RequestKind
    from chalk_flask.services import Services

__all__ = ["read_kind", "request_kind_of"]

MAX_PAGE_RECORDS = 200
"""Maximum number of records on a page that the server loop serves. Larger pages are streams."""

MAX_QUERY_LENGTH = 512
"""Maximum length of a query string of a short request, because it is a part of the kind."""

_COLLECTIONS = frozenset(name for route in READ_ROUTES for path in route.paths for name in path.split("/")[1::2])
_DEFAULT_LIMITS = {root.path: root.default_limit for root in ROOTS}
_ROOT_LENGTH = len(ROOTS[0].path)


def request_kind_of(services: Services) -> RequestKind | None:
    """Return the function that tells the server which requests may be short, or None if each may have to wait.

    Rates are counted before the request is known to be short, and in a shared file. A log that an operator reads slowly
    makes each request wait that is logged.
    """
    settings = services.settings
    has_rates = settings.rate_limit_token or settings.rate_limit_address
    if has_rates or settings.log_requests or not services.store.has_immediate_reads:
        return None
    return read_kind


def read_kind(method: str, path: str, query: str) -> str:
    """Return the kind of a read from its method, path and query, or "" for other requests and for long reads.

    Reads that differ in ids, offset and limit only are of one kind.
    """
    root = path[:_ROOT_LENGTH]
    if method not in ("GET", "HEAD") or root not in _DEFAULT_LIMITS:
        return ""
    names = path[_ROOT_LENGTH + 1 :].split("/")
    if names[0] not in _COLLECTIONS or len(query) > MAX_QUERY_LENGTH:
        return ""
    kind = f"{root}/{'/'.join(names[::2])}"
    return kind if len(names) % 2 == 0 else _page_kind(kind, query, _DEFAULT_LIMITS[root])


def _page_kind(collection: str, query: str, default_limit: int) -> str:
    limit, others = str(default_limit), ""
    for part in query.split("&"):
        if part.startswith("limit="):
            limit = part[6:]
        elif not part.startswith("offset="):
            others += f"&{part}"
    is_small = limit.isascii() and limit.isdigit() and 0 < int(limit[:4]) <= MAX_PAGE_RECORDS
    return f"{collection}?{others.strip('&')}" if is_small else ""
