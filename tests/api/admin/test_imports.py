"""Imports by HTTP: upload, state, decision about a held package, and what is rejected."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL, IMPORTS_WRITE
from chalk_flask.roster.tenant_imports import ImportChoices
from chalk_flask.server import BODY_REJECTED_KEY
from chalk_flask.tenants import TenantStore
from tests.conftest import services_of, url_in
from tests.support.api_client import error_message
from tests.support.packages import PackageBuilder, package_with_users

IMPORTS = "/api/admin/v1/imports"


class Importer:
    """Client with a token of the scope `imports.write`."""

    def __init__(self, app: Flask, tenant: str = "default", scopes: tuple[str, ...] = (IMPORTS_WRITE,)) -> None:
        self.services = services_of(app)
        self.client = app.test_client()
        self.token, self.record = self.services.tokens.create("import", scopes, tenant)

    def send(self, path: str = "", content: Any = None, method: str = "POST", **options: Any) -> TestResponse:
        """Return the response to a request."""
        body = content.zip_bytes() if isinstance(content, PackageBuilder) else content
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return self.client.open(IMPORTS + path, method=method, data=body, headers=headers, **options)

    def get(self, import_id: str, status: int = 200) -> dict[str, Any]:
        """Return the object of a job or a run."""
        response = self.send(f"/{import_id}", method="GET")
        assert response.status_code == status, response.text
        return object_of(response)

    def run(self, content: PackageBuilder, query: str = "") -> dict[str, Any]:
        """Upload a package, run its job, and return the finished job."""
        response = self.send(query, content)
        assert response.status_code == 202, response.text
        self.services.job_worker.run_pending()
        return self.get(object_of(response)["job"])

    def files(self) -> list[str]:
        """Return the names of the stored packages."""
        folder = self.services.jobs.folder
        return [path.name for path in folder.rglob("*.zip")] if folder.is_dir() else []


def object_of(response: TestResponse) -> dict[str, Any]:
    data = response.json
    assert isinstance(data, dict)
    return data


@pytest.fixture
def app(backend: str, tmp_path: Path) -> Iterator[Flask]:
    app = create_app(storage=url_in(tmp_path, backend), data=str(tmp_path / "data"), upload_max_mb=1)
    yield app
    services_of(app).job_worker.close()
    services_of(app).store.close()


@pytest.fixture
def importer(app: Flask) -> Importer:
    return Importer(app)


def test_uploaded_package_is_imported_by_its_job(importer: Importer) -> None:
    response = importer.send("", package_with_users(5), content_type="application/zip")
    queued = object_of(response)
    assert (response.status_code, queued["state"], queued["kind"]) == (202, "queued", "import")
    assert response.headers["Location"] == f"http://localhost{IMPORTS}/{queued['job']}"
    assert response.headers["Cache-Control"] == "private, no-store"
    importer.services.job_worker.run_pending()
    job = importer.get(queued["job"])
    assert (job["state"], job["report"]["state"]) == ("finished", "committed")
    assert job["report"]["files"]["users"]["created"] == 5
    run = importer.get(job["run"])
    assert (run["state"], run["who"]) == ("committed", importer.record.id)
    assert run["files"] == job["report"]["files"]


def test_package_can_be_the_file_of_a_form(importer: Importer) -> None:
    def form(*names: str) -> dict[str, Any]:
        return {name: (io.BytesIO(PackageBuilder().zip_bytes()), "north.zip") for name in names}

    response = importer.send("?dry_run=true", form("package"), content_type="multipart/form-data")
    assert (response.status_code, object_of(response)["package"]) == (202, "north.zip")
    importer.services.job_worker.run_pending()
    job = importer.get(object_of(response)["job"])
    assert (job["kind"], job["run"], job["report"]["state"]) == ("dry_run", None, "checked")
    for wrong in (form("a", "b"), {"package": "text"}, {}):
        assert importer.send("", wrong, content_type="multipart/form-data").status_code == 400
    with_field = {**form("package"), "dry_run": "true"}
    assert importer.send("", with_field, content_type="multipart/form-data").status_code == 400
    many = {f"field-{number}": "x" for number in range(20)}
    assert importer.send("", many, content_type="multipart/form-data").status_code == 413


def test_parameters_are_the_choices_of_the_import(importer: Importer) -> None:
    response = importer.send("?lenient=true&strict=true&invalid_rows=quarantine", PackageBuilder())
    job = importer.services.jobs.get("default", object_of(response)["job"])
    assert job
    assert job.choices == ImportChoices(lenient=True, invalid_rows="quarantine", strict=True)


@pytest.mark.parametrize("query", ["?dryrun=true", "?dry_run=yes", "?dry_run=true&dry_run=true", "?invalid_rows="])
def test_unknown_parameter_is_rejected(query: str, importer: Importer) -> None:
    message = error_message(importer.send(query, PackageBuilder()), 400, "invalid_data", "invalid data")
    assert "dry_run" in message or "invalid_rows" in message
    assert not importer.services.jobs.list("default")


def test_held_package_is_approved_by_the_id_of_its_job(importer: Importer) -> None:
    importer.run(package_with_users(200))
    held = importer.run(package_with_users(150))
    assert held["report"]["state"] == "held"
    response = importer.send(f"/{held['job']}/approve")
    approval = object_of(response)
    assert (response.status_code, approval["kind"], approval["run"]) == (202, "approve", held["run"])
    assert object_of(importer.send(f"/{held['run']}/approve"))["job"] == approval["job"]
    message = error_message(importer.send(f"/{held['run']}/discard"), 409, "conflict", "invalid data")
    assert message == "The package is being approved now. Wait for the result."
    importer.services.job_worker.run_pending()
    assert importer.get(held["run"])["state"] == "committed"
    message = error_message(importer.send(f"/{held['run']}/approve"), 409, "conflict", "invalid data")
    assert "it is committed" in message


def test_held_package_is_discarded(importer: Importer) -> None:
    importer.run(package_with_users(200))
    held = importer.run(package_with_users(150))
    response = importer.send(f"/{held['run']}/discard")
    assert (response.status_code, object_of(response)["state"]) == (200, "discarded")
    assert object_of(response)["settledBy"] == importer.record.id
    message = error_message(importer.send(f"/{held['run']}/discard"), 409, "conflict", "invalid data")
    assert message == f"{held['run']} cannot be discarded: it is discarded."
    checked = importer.run(package_with_users(200), "?dry_run=true")
    assert "has no import run" in object_of(importer.send(f"/{checked['job']}/approve"))["message"]


def test_rejected_package_has_a_report_without_values(importer: Importer) -> None:
    job = importer.run(PackageBuilder().set("users", "pupil-1", enabledUser="perhaps"))
    assert (job["state"], job["report"]["state"]) == ("finished", "refused")
    assert job["report"]["errors"][0]["column"] == "enabledUser"
    assert "perhaps" not in str(job)
    assert importer.get(job["run"])["state"] == "refused"
    for action, text in (("approve", "approved"), ("discard", "discarded")):
        message = error_message(importer.send(f"/{job['run']}/{action}"), 409, "conflict", "invalid data")
        assert message == f"{job['run']} cannot be {text}: it is refused."


def test_file_that_cannot_be_read_is_answered_with_503(importer: Importer) -> None:
    job = importer.run(PackageBuilder().set("users", "pupil-1", enabledUser="perhaps"))
    [report] = importer.services.jobs.folder.parents[1].rglob(f"{job['run']}.json")
    report.unlink()
    report.mkdir()
    response = importer.send(f"/{job['run']}", method="GET")
    assert error_message(response, 503, "server_busy", "server_busy").endswith("the setting `data`.")


def test_approval_without_the_package_does_not_name_its_path(importer: Importer) -> None:
    importer.run(package_with_users(200))
    held = importer.run(package_with_users(150))
    [package] = importer.services.jobs.folder.parents[1].rglob(f"{held['run']}.zip")
    package.unlink()
    approval = object_of(importer.send(f"/{held['run']}/approve"))
    importer.services.job_worker.run_pending()
    failed = importer.get(approval["job"])
    assert failed["state"] == "failed"
    assert failed["message"].startswith(f"the package of {held['run']} is missing or cannot be read: discard it")


def test_repeated_upload_returns_the_job_that_is_active(importer: Importer) -> None:
    first, second = (object_of(importer.send("", package_with_users(5))) for _ in range(2))
    assert first["job"] == second["job"]
    assert len(importer.files()) == 1
    other = object_of(importer.send("?dry_run=true", package_with_users(5)))
    strict = object_of(importer.send("?strict=true", package_with_users(5)))
    assert len({first["job"], other["job"], strict["job"]}) == 3
    importer.services.job_worker.run_pending()
    later = importer.run(package_with_users(5))
    assert later["job"] != first["job"]


def test_repeated_upload_is_queued_after_another_package(importer: Importer) -> None:
    jobs = [object_of(importer.send("", package_with_users(count)))["job"] for count in (6, 7, 6)]
    assert len(set(jobs)) == 3
    importer.services.job_worker.run_pending()
    assert importer.get(jobs[-1])["report"]["files"]["users"]["rows"] == 6


def test_upload_after_a_finished_job_is_a_new_job(importer: Importer) -> None:
    importer.run(package_with_users(5))
    later = importer.run(package_with_users(5))
    assert later["report"]["state"] == "unchanged"


@pytest.mark.parametrize(
    ("content", "status", "part"),
    [
        (b"", 400, "empty"),
        (b"nonsense", 422, "not a readable ZIP file"),
        (PackageBuilder().zip_bytes()[:-30], 422, "was not transferred completely"),
        (bytes((1 << 20) + 1), 413, "larger than 1 MiB"),
    ],
    ids=["empty", "no-zip", "cut-off", "too-large"],
)
def test_invalid_body_changes_nothing(content: bytes, status: int, part: str, importer: Importer) -> None:
    response = importer.send("", content)
    assert (response.status_code, part in object_of(response)["message"]) == (status, True), response.text
    assert not importer.services.jobs.list("default")
    assert not importer.files()


@pytest.mark.parametrize(("reason", "status"), [("too_large", 413), ("busy", 503), ("disk_full", 503)])
def test_body_that_the_server_dropped_is_explained(reason: str, status: int, importer: Importer) -> None:
    response = importer.send("", b"", environ_overrides={BODY_REJECTED_KEY: reason})
    assert (response.status_code, "Nothing was changed" in object_of(response)["message"]) == (status, True)
    assert ("Retry-After" in response.headers) == (status == 503)


def test_incomplete_body_is_rejected(importer: Importer) -> None:
    content = PackageBuilder().zip_bytes()
    response = importer.send("", content, environ_overrides={"CONTENT_LENGTH": str(len(content) + 9)})
    assert (response.status_code, "Content-Length" in object_of(response)["message"]) == (400, True)
    assert not importer.files()


def test_full_queue_is_answered_with_429(importer: Importer) -> None:
    for count in range(20):
        assert importer.send("", package_with_users(5 + count)).status_code == 202
    response = importer.send("", package_with_users(40))
    error_message(response, 429, "server_busy", "server_busy")
    assert response.headers["Retry-After"] == "60"
    assert len(importer.files()) == 20


def test_token_without_the_scope_gets_403_with_its_name(app: Flask, importer: Importer) -> None:
    reader = Importer(app, scopes=ALL)
    for method, path in (("POST", ""), ("GET", "/x"), ("POST", "/x/approve"), ("POST", "/x/discard")):
        message = error_message(reader.send(path, method=method), 403, "forbidden", "forbidden")
        assert message.endswith("required scope: imports.write.")
    assert app.test_client().post(IMPORTS).status_code == 401
    importer.token, _ = importer.services.tokens.create(
        "restricted", (IMPORTS_WRITE,), restrictions=AccessRestrictions.parse(orgs=["org-2"])
    )
    assert "restricted" in error_message(importer.send("", PackageBuilder()), 403, "forbidden", "forbidden")
    assert importer.client.get(IMPORTS, headers={"Authorization": f"Bearer {importer.token}"}).status_code == 405


def test_imports_of_another_tenant_do_not_exist(app: Flask, importer: Importer) -> None:
    TenantStore(importer.services.store).create("north")
    importer.run(package_with_users(200))
    held, north = importer.run(package_with_users(150)), Importer(app, "north")
    for name in (held["job"], held["run"], "run-x", "job-x"):
        for response in (
            north.send(f"/{name}", method="GET"),
            north.send(f"/{name}/approve"),
            north.send(f"/{name}/discard"),
        ):
            assert name in error_message(response, 404, "unknown_object", "unknown object")
    assert importer.get(held["run"])["state"] == "held"
