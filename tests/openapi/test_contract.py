"""Generated requests on each backend: no response deviates from the description, and none is a failure."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from chalk_flask import create_app
from chalk_flask.openapi.operations import OPERATIONS
from chalk_flask.permissions.scopes import KNOWN
from chalk_flask.roster.imports import ImportOptions, import_package
from tests.conftest import BACKENDS, services_of
from tests.openapi.contract import PHASES, run_contract
from tests.support.api_client import create_token

OPERATIONS_OF_BACKENDS = {
    "memory": ["putCategory", "putCategoryWithoutId", "deleteCategory", "getCategory", "createAccessToken"],
    "json": ["putLineItem", "putLineItemWithoutId", "deleteLineItem", "getLineItem", "getHealth", "getService"],
    "sqlite": ["putResult", "putResultWithoutId", "deleteResult", "getResult", "createImport", "getImport"],
}


class _SilentHandler(WSGIRequestHandler):
    """Handler that logs nothing, because a failed test would show thousands of lines."""

    def log_request(self, *_: object) -> None:
        """Do nothing."""


@pytest.fixture
def app(storage: str, tmp_path: Path) -> Iterator[Flask]:
    """Application that puts uploads into a folder of the test. No worker runs their jobs."""
    app = create_app(storage=storage, data=str(tmp_path / "data"))
    yield app
    services_of(app).store.close()


@pytest.fixture
def demo_url(app: Flask) -> Iterator[str]:
    """URL of a service with the sample district, in which the examples of the description find records."""
    with as_file(files("chalk_flask") / "demo") as folder:
        import_package(services_of(app).store, "default", folder, ImportOptions())
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_SilentHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@pytest.mark.slow
@pytest.mark.every_backend
def test_generated_requests_get_described_responses(app: Flask, demo_url: str, backend: str) -> None:
    """Each backend gets the writes of one class and some reads. `./run contract` sends far more requests."""
    operations = [*OPERATIONS_OF_BACKENDS[backend], *list(OPERATIONS)[BACKENDS.index(backend) :: 12]]
    report = run_contract(demo_url, create_token(app, KNOWN), max_examples=2, seed=1, operations=operations)
    assert report.failures == []
    assert report.requests["5xx"] == 0
    assert set(report.requests_by_phase) == set(PHASES)
    assert report.requests["2xx"] > 100
    assert report.requests["4xx"] > 100
