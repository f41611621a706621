"""Registration of the console: the API answers as before, with no more work for each request."""

from __future__ import annotations

import cProfile
import pstats

from flask import Flask

from chalk_flask import create_app
from tests.conftest import services_of
from tests.support.api_client import IMS, Consumer
from tests.support.small_roster import fill

REQUESTS = 20


def calls_of(app: Flask) -> int:
    """Return the number of function calls in some requests to the API."""
    consumer = Consumer(app)
    for _ in range(5):
        consumer.get("/users?limit=5")
    profile = cProfile.Profile()
    environ = {"HTTP_AUTHORIZATION": f"Bearer {consumer.token}"}
    with profile:
        for _ in range(REQUESTS):
            assert consumer.client.get(f"{IMS}/users?limit=5", environ_overrides=environ).status_code == 200
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined, no-any-return]  # typeshed omits it


def test_api_request_makes_no_more_calls_with_the_console() -> None:
    calls = {}
    for console in (True, False):
        app = create_app(storage="memory:", console=console)
        fill(services_of(app).store)
        calls[console] = calls_of(app)
        services_of(app).store.close()
    assert calls[True] <= calls[False] + REQUESTS, calls
