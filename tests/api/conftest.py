"""Fixtures of the API: applications with the small roster. Reads change nothing, so one per backend is enough."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.api.routes import READ_ROUTES
from tests.conftest import services_of, url_in
from tests.support.api_client import Consumer
from tests.support.paths import DATA
from tests.support.small_roster import fill

OPERATIONS = json.loads((DATA / "operations.json").read_text())["operations"]
"""Operations of OneRoster 1.1, from the tables of the specification."""

_ENVELOPES = {
    operation["operationId"]: operation["envelope"] for operation in OPERATIONS if operation["method"] == "GET"
}
_ENVELOPES["getCategoriesForClass"] = "categories"


@pytest.fixture(scope="session")
def served(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Application with the small roster. Tests must not change its store."""
    app = create_app(storage=url_in(tmp_path_factory.mktemp("served"), backend))
    fill(services_of(app).store)
    yield app
    services_of(app).store.close()


@pytest.fixture(scope="session")
def consumer(served: Flask) -> Consumer:
    """Client of `served` with every scope."""
    return Consumer(served)


@pytest.fixture
def serve() -> Iterator[Callable[..., Flask]]:
    """Factory of applications in memory with the small roster and the given settings."""
    apps: list[Flask] = []

    def create(**settings: object) -> Flask:
        app = create_app(storage="memory:", **settings)
        fill(services_of(app).store)
        apps.append(app)
        return app

    yield create
    for app in apps:
        services_of(app).store.close()


def operation_of(path: str) -> str:
    """Return the operation of a path whose words other than ids match the route."""
    words = path.split("/")
    for route in READ_ROUTES:
        template = route.path.split("/")
        if len(template) == len(words) and all(
            part.startswith("{") or part == word for part, word in zip(template, words, strict=True)
        ):
            return route.operation
    raise AssertionError(path)


def envelope_name(path: str) -> str:
    """Return the name of the envelope of a path's response, according to the standard."""
    name: str = _ENVELOPES[operation_of(path)]
    return name
