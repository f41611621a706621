"""Fixtures of pages that write files: an application whose files are in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.support.console.client import Console


@pytest.fixture
def empty_app(tmp_path: Path) -> Iterator[Flask]:
    """Application in memory with the empty tenants `default` and `west`."""
    app = create_app(storage="memory:", data=str(tmp_path / "data"))
    services = services_of(app)
    TenantStore(services.store).create("west")
    yield app
    services.access_log.close()
    services.store.close()


@pytest.fixture
def empty_console(empty_app: Flask) -> Console:
    """Browser of an application without a roster."""
    return Console(empty_app)
