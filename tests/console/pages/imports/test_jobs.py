"""Page of a job: its progress, cancellation, the result of a dry run, and its import."""

from __future__ import annotations

from pathlib import Path

import pytest

from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.jobs.progress import JobProgress, PhaseProgress
from chalk_flask.sources import SourceRequest, SourceStore
from tests.support.console.client import Console, find_form, visible_text
from tests.support.console.imports import job_id_of, package_bytes, run_jobs, run_upload, upload
from tests.support.packages import PackageBuilder, package_with_users


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """The small package."""
    return package_bytes(PackageBuilder(), tmp_path)


def test_queued_job_can_be_canceled(empty_console: Console, content: bytes) -> None:
    empty_console.sign_in("editor")
    page = upload(empty_console, content)
    result = empty_console.submit(page.request.path, action=f"{page.request.path}/cancel")
    assert "The job was canceled" in visible_text(result.text)
    assert "The job was canceled" in visible_text(empty_console.get(page.request.path).text)
    assert "Canceled" in visible_text(empty_console.get("/imports").text)
    empty_console.services.job_worker.run_pending()
    assert empty_console.services.jobs.list_active("default") == []


def test_ended_job_cannot_be_canceled(empty_console: Console, content: bytes) -> None:
    empty_console.sign_in("editor")
    page = upload(empty_console, content)
    action, other = (
        f"{page.request.path}/cancel",
        find_form(empty_console.get("/imports/upload").text, "/imports/upload"),
    )
    assert action in empty_console.get(page.request.path).text
    job = empty_console.services.jobs.get("default", job_id_of(page))
    assert job is not None
    empty_console.services.jobs.start(job)
    running = empty_console.get(page.request.path)
    assert action not in running.text
    assert "Starting" in visible_text(running.text)
    assert "Only a queued job can be canceled" in visible_text(empty_console.post(action, other.values, 409).text)


def test_progress_is_shown_with_and_without_script(empty_console: Console, content: bytes) -> None:
    empty_console.sign_in("viewer")
    editor = Console(empty_console.app)
    editor.sign_in("editor")
    path = upload(editor, content).request.path
    assert empty_console.get(f"{path}/progress").get_json() == {
        "state": "queued",
        "isActive": True,
        "location": path,
        "seconds": None,
        "phases": [],
    }
    jobs = empty_console.services.jobs
    job = jobs.start(jobs.list_active("default")[0])
    phases = (PhaseProgress("orgs", 3, 3, 0.1), PhaseProgress("writing users", 1000, 800, 2.5))
    jobs.progress_file(job).write(JobProgress(phases, 2.6))
    progress = empty_console.get(f"{path}/progress").get_json()
    assert progress["phases"] == [
        {"label": "Read orgs", "count": 3, "total": 3, "isCurrent": False},
        {"label": "Write users", "count": 1000, "total": None, "isCurrent": True},
    ]
    page = empty_console.get(path)
    assert "Write users" in visible_text(page.text)
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page.text


def test_dry_run_changes_nothing_and_can_be_imported(empty_console: Console, content: bytes) -> None:
    empty_console.sign_in("editor")
    page = run_upload(empty_console, content, mode="dry_run")
    text = visible_text(page.text)
    assert "This was a dry run. Nothing was changed" in text
    assert "Import now" in text
    assert "dry run" in visible_text(empty_console.get("/imports").text)
    with empty_console.services.store.read("default") as snapshot:
        assert not snapshot.exists("users")
    queued = empty_console.submit(page.request.path, action=f"{page.request.path}/import")
    assert "The package was applied" in visible_text(run_jobs(empty_console, queued).text)
    again = empty_console.get(page.request.path)
    assert "Import now" not in again.text
    assert "no longer kept" in visible_text(again.text)


def test_dry_run_tells_that_an_import_would_be_held(empty_console: Console, tmp_path: Path) -> None:
    empty_console.sign_in("editor")
    run_upload(empty_console, package_bytes(package_with_users(200), tmp_path))
    page = run_upload(empty_console, package_bytes(package_with_users(150), tmp_path), mode="dry_run")
    text = visible_text(page.text)
    assert "An import would be held for approval" in text
    assert "would delete 50 of 200 stored records" in text


def test_failed_job_says_why(empty_console: Console, content: bytes) -> None:
    empty_console.sign_in("editor")
    page = upload(empty_console, content)
    jobs = empty_console.services.jobs
    jobs.fail(jobs.start(jobs.list_active("default")[0]), "the disk is full: <b>make room</b>")
    text = empty_console.get(page.request.path).text
    assert "The disk is full: &lt;b&gt;make room&lt;/b&gt;." in text
    assert "Failed" in visible_text(empty_console.get("/imports").text)


@pytest.mark.parametrize("path", ["", "/progress", "/problems.csv", "/changes"])
def test_unknown_import_is_not_found(empty_console: Console, path: str) -> None:
    empty_console.sign_in("owner")
    for import_id in ("job-00000000-0000-0000-0000-000000000000", "run-1", "nothing", "..%2f..%2fetc"):
        empty_console.get(f"/imports/{import_id}{path}", 404)


def test_job_of_a_sync_names_its_source(empty_console: Console) -> None:
    services = empty_console.services
    sources = SourceStore(services.store, SecretCipher(services.settings.data))
    sources.add("default", SourceRequest(name="sis", url="https://sis.example.org/v1p1", auth="bearer", secret="x"))
    job = services.jobs.sync("default", "sis", requested_by="schedule")
    empty_console.sign_in("viewer")
    assert "sis sync" in visible_text(empty_console.get("/imports").text)
    services.jobs.start(job)
    downloading = PhaseProgress("downloading users", 2000, None, 0.5)
    services.jobs.tenant_folder("default").mkdir(parents=True, exist_ok=True)
    services.jobs.progress_file(job).write(JobProgress((downloading,), 0.5))
    assert "Download users" in visible_text(empty_console.get(f"/imports/{job.id}").text)
