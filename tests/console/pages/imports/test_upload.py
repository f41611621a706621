"""Upload of packages: the form, its choices, errors, and the job that follows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from werkzeug.datastructures import FileStorage

from chalk_flask.audit.events import read_events
from chalk_flask.roster.tenant_imports import ImportChoices
from tests.support.console.client import Console, filled, find_form, visible_text
from tests.support.console.imports import job_id_of, package_bytes, run_jobs, run_upload, upload
from tests.support.packages import PackageBuilder


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """The small package."""
    return package_bytes(PackageBuilder(), tmp_path)


def stored_files(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "data").rglob("upload-*")]


def test_uploaded_package_is_imported(empty_console: Console, content: bytes) -> None:
    administrator = empty_console.sign_in("editor")
    page = upload(empty_console, content)
    assert "Waiting for its turn" in visible_text(page.text)
    result = run_jobs(empty_console, page)
    assert "The package was applied" in visible_text(result.text)
    assert result.request.path.startswith("/imports/run-")
    text = visible_text(empty_console.get("/imports").text)
    assert "roster.zip" in text
    assert administrator.name in text
    events = list(read_events(empty_console.services.store, "default"))
    assert [event["by"] for event in events if event["event"] == "job.queued"] == [administrator.id]
    assert administrator.name not in str(events)
    assert empty_console.get(f"/imports/{job_id_of(page)}", 303).headers["Location"] == result.request.path


def test_choices_are_those_of_the_form(empty_console: Console, content: bytes) -> None:
    empty_console.sign_in("editor")
    page = upload(empty_console, content, mode="dry_run", lenient="yes", invalid_rows="quarantine", strict="y")
    job = empty_console.services.jobs.get("default", job_id_of(page))
    assert job is not None
    assert (job.kind, job.choices) == ("dry_run", ImportChoices(lenient=True, invalid_rows="quarantine", strict=True))
    other = empty_console.services.jobs.get("default", job_id_of(upload(empty_console, content)))
    assert other is not None
    assert (other.kind, other.choices) == ("import", ImportChoices())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", b"no archive", "ZIP"),
        ("", b"", "Choose a ZIP file."),
        ("empty.zip", b"", "ZIP"),
        ("<script>alert(1)</script>.zip", b"no archive", "ZIP"),
    ],
)
def test_invalid_upload_is_rejected(
    empty_console: Console, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    empty_console.sign_in("editor")
    file = FileStorage(io.BytesIO(content), filename=name)
    page = empty_console.submit("/imports/upload", action="/imports/upload", package=file, status=422)
    assert message in visible_text(page.text)
    assert "<script>alert" not in page.text
    assert stored_files(tmp_path) == []
    assert empty_console.services.jobs.list("default") == []


def test_too_large_upload_is_rejected(empty_console: Console, tmp_path: Path, content: bytes) -> None:
    empty_console.sign_in("editor")
    empty_console.services.jobs.max_upload_bytes = 100
    file = FileStorage(io.BytesIO(content), filename="roster.zip")
    page = empty_console.submit("/imports/upload", action="/imports/upload", package=file, status=422)
    assert "larger than" in visible_text(page.text)
    assert stored_files(tmp_path) == []


def test_script_receives_json(empty_console: Console, content: bytes) -> None:
    empty_console.sign_in("editor")
    form = find_form(empty_console.get("/imports/upload").text, "/imports/upload")
    json = {"Accept": "application/json"}
    broken = filled(form, {"package": FileStorage(io.BytesIO(b"no archive"), filename="notes.txt")})
    response = empty_console.client.post(form.action, data=broken, headers=json)
    assert (response.status_code, "ZIP" in response.get_json()["message"]) == (422, True)
    data = filled(form, {"package": FileStorage(io.BytesIO(content), filename="roster.zip")})
    response = empty_console.client.post(form.action, data=data, headers=json)
    assert (response.status_code, response.headers["Location"]) == (201, response.get_json()["location"])
    assert "roster.zip" in empty_console.get(response.get_json()["location"]).text


def test_form_that_is_sent_twice_queues_one_job(empty_console: Console, content: bytes) -> None:
    empty_console.sign_in("editor")
    form = find_form(empty_console.get("/imports/upload").text, "/imports/upload")
    for _ in range(2):
        data = filled(form, {"package": FileStorage(io.BytesIO(content), filename="roster.zip")})
        response = empty_console.post(form.action, data)
        assert response.headers["Location"].startswith("/imports/job-")
    assert len(empty_console.services.jobs.list("default")) == 1


def test_viewer_cannot_upload(empty_console: Console) -> None:
    empty_console.sign_in("viewer")
    assert "/imports/upload" not in empty_console.get("/imports").text
    empty_console.get("/imports/upload", 403)


def test_upload_of_another_tenant_is_not_found(empty_console: Console, content: bytes) -> None:
    empty_console.sign_in("editor")
    page = run_upload(empty_console, content)
    empty_console.sign_in("owner", "west")
    empty_console.get(page.request.path, 404)
    assert "roster.zip" not in empty_console.get("/imports").text


def test_name_of_an_operator_is_shown_to_operators_only(empty_console: Console, content: bytes) -> None:
    operator = empty_console.sign_in("editor", None)
    upload(empty_console, content)
    assert operator.name in visible_text(empty_console.get("/imports").text)
    empty_console.sign_in("owner")
    page = visible_text(empty_console.get("/imports").text)
    assert operator.name not in page
    assert "an operator" in page
