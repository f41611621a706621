"""Fixtures of the console: an application in memory with the small roster, and a browser for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from chalk_flask import create_app
from tests.conftest import services_of
from tests.support.console.client import Console, fill_console_store


@pytest.fixture(scope="session")
def shared_console_app() -> Iterator[Flask]:
    """Application in memory. Its store is filled again for each test, because an application takes long to create."""
    app = create_app(storage="memory:")
    yield app
    services_of(app).store.close()


@pytest.fixture
def console_app(shared_console_app: Flask) -> Flask:
    """Application in memory with the small roster in the tenant `default`, and an empty tenant `west`."""
    fill_console_store(shared_console_app)
    return shared_console_app


@pytest.fixture
def new_console_app() -> Iterator[Flask]:
    """Application like `console_app` that no other test uses, for example because it counts failed attempts."""
    app = create_app(storage="memory:")
    fill_console_store(app)
    yield app
    services_of(app).store.close()


@pytest.fixture
def console(console_app: Flask) -> Console:
    """Browser without a signed-in administrator: call `console.sign_in(...)` first."""
    return Console(console_app)
