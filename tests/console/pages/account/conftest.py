"""Fixtures of pages that count failed attempts: an application for each test."""

from __future__ import annotations

import pytest
from flask import Flask


@pytest.fixture
def console_app(new_console_app: Flask) -> Flask:
    return new_console_app
