"""Browser whose requests go to the serving processes of a service in turn."""

from __future__ import annotations

import http.client
from collections.abc import Iterable
from http.cookies import SimpleCookie
from itertools import cycle
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.support.console.client import filled, find_form

__all__ = ["AlternatingBrowser", "Page"]


class Page(NamedTuple):
    """Response to a request."""

    status: int
    location: str
    text: str


class AlternatingBrowser:
    """Browser without JavaScript that sends each request over the next one of its connections."""

    def __init__(self, connections: Iterable[http.client.HTTPConnection]) -> None:
        self._connections = cycle(connections)
        self._cookies: dict[str, str] = {}

    def get(self, path: str) -> Page:
        """Return a page."""
        return self._request("GET", path)

    def post(self, path: str, form: dict[str, Any]) -> Page:
        """Send a form."""
        return self._request("POST", path, urlencode(form))

    def submit(self, path: str, action: str, **fields: str) -> Page:
        """Fetch a page, fill in its form and send it. The response must redirect; it is followed."""
        form = find_form(self.get(path).text, action)
        sent = self.post(action, dict(filled(form, fields)))
        assert sent.status == 303, sent
        return self.get(sent.location)

    def _request(self, method: str, path: str, body: str | None = None) -> Page:
        headers = {"Accept": "text/html", "Cookie": "; ".join(f"{name}={text}" for name, text in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = next(self._connections)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        for line in response.headers.get_all("Set-Cookie", []):
            self._cookies.update({name: morsel.coded_value for name, morsel in SimpleCookie(line).items()})
        return Page(response.status, response.headers.get("Location", ""), response.read().decode())
