"""Provider of a OneRoster 1.1 REST API, as a sync reads it: pages of a collection."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode, urljoin, urlsplit

import orjson

from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.sources.client.authorization import Authorizer
from chalk_flask.sources.client.http_client import HttpClient, HttpResponse, origin_of
from chalk_flask.sources.errors import SourceError, StatusError
from chalk_flask.sources.limits import FALLBACK_PAGE_SIZE

__all__ = ["FilterRejectedError", "Page", "Provider", "offset_of"]

_NEXT_LINK: Final = re.compile(r'<([^<>]*)>[^<]*?;\s*rel="?(?:[^"<>,;]* )?next(?: [^"<>,;]*)?"?', re.IGNORECASE)
_REJECTED: Final = (400, 422)
"""Statuses with which a provider rejects a parameter."""
_FILTER_REJECTED: Final = (*_REJECTED, 404, 501)


class FilterRejectedError(StatusError):
    """Error for a provider that does not accept the filter by dateLastModified, or does not have the collection."""


@dataclass(frozen=True, slots=True)
class Page:
    """Records of a page. They may be of any JSON type.

    `total` is the value of X-Total-Count, None if it is missing or no number. `next_url` is the link to the next page,
    None if there is none. `has_links` is True if there are links of any kind.
    """

    records: Sequence[Any]
    total: int | None
    next_url: str | None
    has_links: bool


class Provider:
    """Client of a provider. It remembers which parameters the provider rejects. Not thread-safe."""

    def __init__(self, client: HttpClient, url: str, authorizer: Authorizer, page_size: int) -> None:
        self._client, self._url, self._authorizer = client, url.rstrip("/"), authorizer
        self._first_page_size = page_size
        self._restore_parameters()

    def read_page(self, resource_type: ResourceType, since: str | None, offset: int) -> Page:
        """Return the page at an offset. With the timestamp `since`, it has only records that changed since then.

        Raises FilterRejectedError if the provider does not accept that, StatusError for another status than 200, and
        SourceError.
        """
        while True:
            response = self._get(f"{self._url}/{resource_type.name}?{self._query(since, offset)}")
            if response.status in _REJECTED and self._drop_parameter():
                continue
            if since is not None and response.status in _FILTER_REJECTED:
                self._restore_parameters()
                message = f"the provider rejects the filter by date (status {response.status})"
                raise FilterRejectedError(message, response.status)
            return self._parse(response, resource_type)

    def follow(self, resource_type: ResourceType, url: str) -> Page:
        """Return the page of a link. Raises StatusError and SourceError."""
        return self._parse(self._get(url), resource_type)

    def _query(self, since: str | None, offset: int) -> str:
        params: dict[str, str] = {"limit": str(self._page_size), "offset": str(offset)}
        if self._is_sorted:
            params |= {"sort": "sourcedId", "orderBy": "asc"}
        if since is not None:
            params["filter"] = f"dateLastModified>='{since}'"
        return urlencode(params, quote_via=quote)

    def _restore_parameters(self) -> None:
        """Use all parameters again, because the provider rejected the filter and not them."""
        self._page_size, self._is_sorted = self._first_page_size, True

    def _drop_parameter(self) -> bool:
        """Request smaller pages or, after that, no order. Return False if nothing else can be left out."""
        if self._page_size > FALLBACK_PAGE_SIZE:
            self._page_size = FALLBACK_PAGE_SIZE
        elif self._is_sorted:
            self._is_sorted = False
        else:
            return False
        return True

    def _get(self, url: str) -> HttpResponse:
        """Send a GET, and once more with a new access token if the provider rejects the present one."""
        response = self._client.send("GET", url, self._authorizer.headers)
        if response.status == 401 and self._authorizer.renew():
            response = self._client.send("GET", url, self._authorizer.headers)
        return response

    def _parse(self, response: HttpResponse, resource_type: ResourceType) -> Page:
        _check_status(response, resource_type, self._authorizer.unauthorized_advice)
        links = response.headers.get("link", "")
        return Page(
            _records(response.body, resource_type),
            _parse_total(response.headers),
            self._next_url(response.url, links, resource_type),
            bool(links),
        )

    def _next_url(self, url: str, links: str, resource_type: ResourceType) -> str | None:
        """Return the URL of the next page. A link to another origin, as of a proxy, gives the query only."""
        match = _NEXT_LINK.search(links)
        if match is None:
            return None
        try:
            target: str = urljoin(url, match[1])
            if origin_of(target) == origin_of(url):
                return target
            return f"{self._url}/{resource_type.name}?{urlsplit(target).query}"
        except ValueError:
            raise SourceError(
                f"the provider sends an invalid link to the next page of {resource_type.name}: tell its operator"
            ) from None


def offset_of(url: str) -> int | None:
    """Return the parameter `offset` of a URL; None if it has none."""
    values = parse_qs(urlsplit(url).query).get("offset", [])
    return int(values[0][:12]) if len(values) == 1 and values[0].isdecimal() else None


def _check_status(response: HttpResponse, resource_type: ResourceType, unauthorized_advice: str) -> None:
    """Raise StatusError unless the status is 200."""
    match response.status:
        case 200:
            return
        case 401:
            advice = unauthorized_advice
        case 403:
            advice = "the credential may not read it: let the operator of the provider allow it"
        case 404 | 501:
            advice = "the provider does not have it: check the URL, which ends with /ims/oneroster/v1p1"
        case _:
            advice = "tell the operator of the provider, or try again later"
    raise StatusError(
        f"the provider answers a request of {resource_type.name} with the status {response.status}; {advice}",
        response.status,
    )


def _records(body: bytes, resource_type: ResourceType) -> Sequence[Any]:
    """Return the records in a body: a list, a single object, or one of them below the name of the collection."""
    try:
        data = orjson.loads(body)
    except ValueError:
        raise SourceError(
            f"the provider answers a request of {resource_type.name} with a body that is not JSON: check the URL"
        ) from None
    if isinstance(data, dict):
        names = [name for name in (resource_type.name, resource_type.singular_name) if name in data]
        if not names and "sourcedId" not in data:
            raise SourceError(
                f"the provider answers a request of {resource_type.name} without a member {resource_type.name!r}:"
                " check the URL"
            )
        data = data[names[0]] if names else data
    if data is None:
        return ()
    return data if isinstance(data, list) else (data,)


def _parse_total(headers: Mapping[str, str]) -> int | None:
    text = headers.get("x-total-count", "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None
