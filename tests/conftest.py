"""Fixtures of every test: a service in memory, or on each backend for tests that are marked for it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser

from backends import Backend
from chalk_flask import create_app
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.services import Services
from tests.support.clock import FakeClock
from tests.support.console.browser import launch_browser
from tests.support.postgresql import fixtures as postgresql

create_postgresql_server = postgresql.create_postgresql_server
postgresql_folder = postgresql.postgresql_folder
postgresql_schema = postgresql.postgresql_schema
postgresql_server = postgresql.postgresql_server
postgresql_url = postgresql.postgresql_url

collect_ignore = ["data/thirdparty"]
"""The example of the backend guide is not installed here. tests/backends/test_thirdparty.py runs its tests."""

BACKENDS = ("memory", "json", "sqlite")

Serve: TypeAlias = Callable[..., Flask]
"""Function that creates an application with the given settings."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses `backend` once per backend if it is marked `every_backend`, else once in memory.

    `@pytest.mark.on_backend("sqlite")` selects another one.
    """
    if "backend" in metafunc.fixturenames:
        kinds: tuple[str, ...] = ("memory",)
        if marker := metafunc.definition.get_closest_marker("on_backend"):
            kinds = marker.args
        elif metafunc.definition.get_closest_marker("every_backend"):
            kinds = BACKENDS
        metafunc.parametrize("backend", kinds, scope="session", indirect=True)


@pytest.fixture(autouse=True)
def _without_chalk_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CHALK_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The only browser of the run: Playwright cannot be started twice in one thread."""
    with launch_browser() as browser:
        yield browser


class _OwnRecords(logging.Filter):
    """Filter of the records that threads other than the given ones write."""

    def __init__(self, others: frozenset[threading.Thread]) -> None:
        super().__init__()
        self._others = others

    def filter(self, record: logging.LogRecord) -> bool:
        return threading.current_thread() not in self._others


@pytest.fixture(autouse=True)
def _threads_of_earlier_tests() -> frozenset[threading.Thread]:
    return frozenset(threading.enumerate()) - {threading.current_thread()}


@pytest.fixture
def caplog(
    caplog: pytest.LogCaptureFixture, _threads_of_earlier_tests: frozenset[threading.Thread]
) -> Iterator[pytest.LogCaptureFixture]:
    """Captured log without the records of threads that earlier tests started and left running."""
    with caplog.filtering(_OwnRecords(_threads_of_earlier_tests)):
        yield caplog


def url_in(folder: Path, backend: str) -> str:
    """Return the storage URL of a new store of that backend in a folder."""
    return {"memory": "memory:", "json": f"json:///{folder}/chalk", "sqlite": f"sqlite:///{folder}/chalk.db"}[backend]


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> str:
    """Name of the backend of this test run, see `pytest_generate_tests`."""
    name: str = request.param
    return name


@pytest.fixture
def storage(backend: str, tmp_path: Path) -> str:
    """URL of a new store on `backend`."""
    return url_in(tmp_path, backend)


@pytest.fixture
def app(storage: str) -> Iterator[Flask]:
    app = create_app(storage=storage)
    yield app
    services_of(app).store.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Factory of applications in memory."""
    apps: list[Flask] = []

    def create(**settings: object) -> Flask:
        apps.append(create_app(storage="memory:", **settings))
        return apps[-1]

    yield create
    for app in apps:
        services_of(app).store.close()


@pytest.fixture
def store(app: Flask) -> Backend:
    """The store that `app` serves from; fill it with `store.write("default")`."""
    return services_of(app).store


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cipher(tmp_path: Path) -> SecretCipher:
    """Cipher whose key is in the folder `data`."""
    return SecretCipher(tmp_path / "data")


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def services_of(app: Flask) -> Services:
    """Return the services of an application."""
    services: Services = app.extensions["chalk"]
    return services
