"""Responses of imports, of the token endpoint and of the pages for monitoring: all fit the OpenAPI document."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.jobs import JobProgress, PhaseProgress
from chalk_flask.permissions.scopes import IMPORTS_WRITE
from tests.conftest import Serve, services_of
from tests.openapi.described import Document, check_response, operations_of, validator_of
from tests.support.api_client import create_token
from tests.support.packages import PackageBuilder, package_with_users

IMPORTS = "/api/admin/v1/imports"
PATHS = {
    "createImport": ("POST", IMPORTS),
    "getImport": ("GET", f"{IMPORTS}/{{id}}"),
    "approveImport": ("POST", f"{IMPORTS}/{{id}}/approve"),
    "discardImport": ("POST", f"{IMPORTS}/{{id}}/discard"),
}


class DescribedClient:
    """Client whose responses are compared with the OpenAPI document of the service."""

    def __init__(self, app: Flask, document: Document) -> None:
        self.services, self._client, self.document = services_of(app), app.test_client(), document
        self.headers = {"Authorization": f"Bearer {create_token(app, [IMPORTS_WRITE])}"}

    def call(self, operation: str, status: int, import_id: str = "", query: str = "", **options: Any) -> dict[str, Any]:
        """Call an operation of imports, and return the JSON object of its response."""
        method, path = PATHS[operation]
        options = {"headers": self.headers, **options}
        return self.send(operation, status, method, path.format(id=import_id) + query, **options)

    def send(self, operation: str, status: int, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request, and return the JSON object of its response."""
        response = self._client.open(path, method=method, **options)
        assert response.status_code == status, response.text
        check_response(self.document, operation, response)
        data = response.get_json(silent=True)
        return data if isinstance(data, dict) else {}

    def run(self, package: PackageBuilder, query: str = "") -> dict[str, Any]:
        """Upload a package, run its job, and return the finished job."""
        job = self.call("createImport", 202, query=query, data=package.zip_bytes())
        assert self.call("getImport", 200, job["job"])["state"] == "queued"
        self.services.job_worker.run_pending()
        return self.call("getImport", 200, job["job"])


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """Application whose packages are at most 1 MiB."""
    app = create_app(storage="memory:", data=str(tmp_path / "data"), upload_max_mb=1)
    yield app
    services_of(app).job_worker.close()
    services_of(app).store.close()


@pytest.fixture
def described(app: Flask, document: Document) -> DescribedClient:
    return DescribedClient(app, document)


def test_imports_in_every_state_fit_the_document(described: DescribedClient) -> None:
    committed = described.run(package_with_users(200))
    assert described.call("getImport", 200, committed["run"])["state"] == "committed"
    checked = described.run(package_with_users(150), "?dry_run=true")
    assert checked["report"]["brake"]
    held = described.run(package_with_users(150))
    assert described.call("discardImport", 200, held["job"])["state"] == "discarded"
    held = described.run(package_with_users(150))
    assert described.call("approveImport", 202, held["run"])["kind"] == "approve"
    described.services.job_worker.run_pending()
    assert described.call("getImport", 200, held["run"])["settledBy"]


def test_rejected_and_quarantined_packages_fit_the_document(described: DescribedClient) -> None:
    package = package_with_users(20).set("users", "pupil-1", enabledUser="perhaps")
    rejected = described.run(package)
    assert rejected["report"]["errors"]
    assert rejected["report"]["errorCounts"]
    assert described.call("getImport", 200, rejected["run"])["state"] == "refused"
    quarantined = described.run(package, "?invalid_rows=quarantine&lenient=true")
    assert quarantined["report"]["quarantinedRows"]
    assert quarantined["report"]["warnings"] or quarantined["report"]["quarantined"]


def test_errors_of_imports_fit_the_document(described: DescribedClient) -> None:
    zip_bytes = PackageBuilder().zip_bytes()
    described.call("createImport", 400, query="?dryrun=true", data=zip_bytes)
    described.call("createImport", 401, data=zip_bytes, headers={})
    described.call("createImport", 413, data=bytes((1 << 20) + 1))
    described.call("createImport", 422, data=b"no ZIP file")
    form = {"package": (io.BytesIO(zip_bytes), "north.zip"), "note": "text"}
    described.call("createImport", 400, data=form, content_type="multipart/form-data")
    committed = described.run(PackageBuilder())
    for operation in ("approveImport", "discardImport"):
        described.call(operation, 404, "run-x")
        described.call(operation, 409, committed["run"])
    for count in range(20):
        described.call("createImport", 202, data=package_with_users(5 + count).zip_bytes())
    described.call("createImport", 429, data=package_with_users(40).zip_bytes())


def test_credential_without_the_scope_fits_the_document(app: Flask, described: DescribedClient) -> None:
    described.headers = {"Authorization": f"Bearer {create_token(app, [])}"}
    for operation in PATHS:
        described.call(operation, 403, "run-x")


def test_progress_of_a_job_fits_the_document(described: DescribedClient) -> None:
    phases = (PhaseProgress("users", 10, 20, 0.5), PhaseProgress("writing users", 5, None, 0.25))
    schema = {"$ref": "#/components/schemas/ImportProgress"}
    validator_of(described.document, schema).validate(JobProgress(phases, 0.75).to_dict())


def test_tokens_fit_the_document(described: DescribedClient) -> None:
    secret, client = described.services.clients.create("test", [IMPORTS_WRITE])
    request = {"grant_type": "client_credentials", "client_id": client.id, "client_secret": secret}
    token = described.send("createAccessToken", 200, "POST", "/oauth/token", data=request)
    assert token["scope"] == IMPORTS_WRITE
    described.headers = {"Authorization": f"Bearer {token['access_token']}"}
    described.call("getImport", 404, "run-x")
    described.send("createAccessToken", 400, "POST", "/oauth/token", data={**request, "grant_type": "password"})
    described.send("createAccessToken", 401, "POST", "/oauth/token", data={**request, "client_secret": "wrong"})


def test_pages_for_monitoring_fit_the_document(described: DescribedClient) -> None:
    described.send("getService", 200, "GET", "/")
    described.send("getService", 400, "GET", "/", headers={"Host": "a<b>"})
    described.send("getHealth", 200, "GET", "/healthz")
    described.send("getReadiness", 200, "GET", "/readyz")
    described.send("getMetrics", 200, "GET", "/metrics")
    described.send("getMetrics", 403, "GET", "/metrics", headers={"Via": "1.1 proxy"})


def test_late_roster_and_metrics_token_fit_the_document(serve: Serve, document: Document) -> None:
    client = DescribedClient(serve(ready_max_roster_hours=1, metrics_token="m" * 16), document)
    roster = client.send("getReadiness", 503, "GET", "/readyz")["checks"]["roster"]
    assert (roster["status"], roster["max_hours"]) == ("failed", 1)
    client.send("getMetrics", 401, "GET", "/metrics")


def test_every_described_import_operation_is_called(described: DescribedClient) -> None:
    """A new operation needs a path in `PATHS`, and calls in these tests."""
    tags = {each["operationId"] for _, _, each in operations_of(described.document) if each["tags"] == ["imports"]}
    assert tags == set(PATHS)
