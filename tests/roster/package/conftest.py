"""Fixtures for tests of packages that are rejected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.roster.package.rejections import FilledStore, filled_store


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledStore]:
    """Store with the small roster."""
    with filled_store(tmp_path_factory.mktemp("filled")) as store:
        yield store
