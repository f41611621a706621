"""The service over every backend: `app`, `client` and `store` belong together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from backends import Backend
from chalk_flask import create_app
from chalk_flask.services import Services

BACKENDS = ("memory", "json", "sqlite")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CHALK_")]:
        monkeypatch.delenv(name)


def url_in(folder: Path, backend: str) -> str:
    """The storage URL of a new store of that kind in a folder."""
    return {"memory": "memory:", "json": f"json:///{folder}/chalk", "sqlite": f"sqlite:///{folder}/chalk.db"}[backend]


@pytest.fixture(params=BACKENDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new store, once for every backend."""
    return url_in(tmp_path, request.param)


@pytest.fixture
def app(storage: str) -> Iterator[Flask]:
    made = create_app(storage=storage)
    yield made
    chalk_of(made).store.close()


@pytest.fixture
def store(app: Flask) -> Backend:
    """The store that `app` serves from; fill it with `store.write("default")`."""
    return chalk_of(app).store


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def chalk_of(app: Flask) -> Services:
    """The parts of an application."""
    chalk: Services = app.extensions["chalk"]
    return chalk
