"""Kinds of requests that can be loop requests: reads of single objects, and of pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalk_flask.api.routes import READ_ROUTES, ROOTS

if TYPE_CHECKING:
    from chalk_flask.server.loop_requests import ClassifyRequest
    from chalk_flask.services import Services

__all__ = ["classify_read", "request_classifier"]

MAX_PAGE_RECORDS = 200
"""Maximum number of records on a page that the server loop serves. Larger pages are usually streams."""

MAX_QUERY_LENGTH = 512
"""Maximum number of characters in the query string of a loop request, because it is a part of the kind."""

_COLLECTIONS = frozenset(name for route in READ_ROUTES for path in route.paths for name in path.split("/")[1::2])
_DEFAULT_LIMITS = {root.path: root.default_limit for root in ROOTS}
_ROOT_LENGTH = len(ROOTS[0].path)


def request_classifier(services: Services) -> ClassifyRequest | None:
    """Return the function that finds the kind of a request, or None if each request of the service may have to wait.

    With rate limits, each request is counted in a shared file. With `log_requests`, each one writes to the log, whose
    reader may be slow. Stores without immediate reads may wait at any time.
    """
    settings = services.settings
    has_rates = settings.rate_limit_token or settings.rate_limit_address
    if has_rates or settings.log_requests or not services.store.has_immediate_reads:
        return None
    return classify_read


def classify_read(method: str, path: str, query: str) -> str:
    """Return the kind of a read from its method, path and query, or "" if only a thread may run it.

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
