"""Fixtures of the description: the document as a client receives it."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from tests.api.conftest import consumer, serve, served

__all__ = ["consumer", "document", "serve", "served"]


@pytest.fixture(scope="session")
def document(served: Flask) -> dict[str, Any]:
    """Document of the application with the small roster."""
    response = served.test_client().get("/openapi.json")
    assert response.status_code == 200
    parsed: dict[str, Any] = response.get_json()
    return parsed
