from __future__ import annotations

import pytest

from tests.demo.csv_packages import DEMO, PACKAGES, Package, load


@pytest.fixture(scope="module")
def demo() -> Package:
    return load(DEMO)


@pytest.fixture(scope="module", params=PACKAGES)
def package(request: pytest.FixtureRequest) -> Package:
    return load(PACKAGES[request.param])
