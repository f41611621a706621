"""Helpers of reads: large collections, and responses as a WSGI server receives them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from flask import Flask
from werkzeug.test import create_environ

from backends import Backend
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.scopes import ALL
from tests.support.api_client import create_token
from tests.support.small_roster import ROSTER

LARGE_COLLECTION = 3000
"""Number of users whose response is a stream."""


def put_users(store: Backend, number: int, **changes: Any) -> None:
    """Store users with the ids v-00000 and following."""
    template, users = ROSTER["users"][0] | changes, RESOURCES["users"]
    with store.write("default") as transaction:
        transaction.put("users", (users.record({**template, "sourcedId": f"v-{n:05}"}) for n in range(number)))


def response_blocks(app: Flask, path: str) -> Generator[bytes, None, None]:
    """Yield the blocks of a response body as a WSGI server receives them, and close the response at the end."""
    headers = {"Authorization": f"Bearer {create_token(app, ALL)}"}
    response = app(create_environ(path, headers=headers), lambda status, _headers, _error=None: lambda _data: status)
    try:
        yield from response
    finally:
        close: Any = getattr(response, "close", None)
        if close is not None:
            close()
