"""Fixtures of the API: applications with the small roster. Reads change nothing, so one per backend is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from chalk_flask import create_app
from tests.conftest import services_of, url_in
from tests.support.api_client import Consumer
from tests.support.small_roster import fill


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
