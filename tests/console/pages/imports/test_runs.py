"""Page of an import run: report, filters, CSV file, and the decision about a held package."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from chalk_flask.audit.events import read_events
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from tests.support.console.client import Console, find_form, visible_text
from tests.support.console.imports import job_id_of, package_bytes, run_jobs, run_upload
from tests.support.packages import PackageBuilder, package_with_users


@pytest.fixture
def editor(empty_console: Console) -> Console:
    """Browser of an editor."""
    empty_console.sign_in("editor")
    return empty_console


def invalid_package() -> PackageBuilder:
    """Return a package with an invalid cell that contains markup, and a reference to nothing."""
    package = PackageBuilder().set("users", "pupil-1", enabledUser="<script>alert(1)</script>")
    return package.set("enrollments", "enr-1", userSourcedId="unknown-user").set("users", "pupil-2", email="=SUM(A1)")


def hold(console: Console, tmp_path: Path) -> TestResponse:
    """Import 200 users, then hold a package with 150 of them. Return the page of the held run."""
    run_upload(console, package_bytes(package_with_users(200), tmp_path))
    page = run_upload(console, package_bytes(package_with_users(150), tmp_path), "smaller.zip")
    assert "is held" in visible_text(page.text)
    return page


def events(console: Console) -> list[dict[str, object]]:
    return list(read_events(console.services.store, "default"))


def users(console: Console) -> int:
    """Return the number of active users."""
    with console.services.store.read("default") as snapshot:
        return len(list(snapshot.keys("users", ACTIVE_ONLY)))


def test_rejected_import_lists_its_problems(editor: Console, tmp_path: Path) -> None:
    page = run_upload(editor, package_bytes(invalid_package(), tmp_path))
    text = visible_text(page.text)
    assert "The package was rejected. Nothing was changed." in text
    assert "users.csv" in text
    assert "enabledUser" in text
    assert "<script>alert" not in page.text
    assert "alert(1)" not in text, "reports contain no cell values"
    assert "Rejected" in visible_text(editor.get("/imports", state="refused").text)


def test_problems_are_filtered_by_file_kind_and_code(editor: Console, tmp_path: Path) -> None:
    path = run_upload(editor, package_bytes(invalid_package(), tmp_path)).request.path
    by_file = visible_text(editor.get(path, file="enrollments.csv").text)
    assert "No problem matches" not in by_file
    assert "1–1 of 1 problem" in by_file
    assert "No problem matches" in editor.get(path, file="orgs.csv").text
    assert "No problem matches" in editor.get(path, kind="warning", file="enrollments.csv").text
    assert "No problem matches" in editor.get(path, code="<script>").text


def test_problems_are_downloaded_as_csv(editor: Console, tmp_path: Path) -> None:
    page = run_upload(editor, package_bytes(invalid_package(), tmp_path), invalid_rows="quarantine")
    response = editor.get(f"{page.request.path}/problems.csv")
    assert response.content_type.startswith("text/csv")
    assert response.headers["Content-Disposition"] == f'attachment; filename="{job_id_of(page)}-problems.csv"'
    header, *rows = csv.reader(io.StringIO(response.text))
    assert header == ["kind", "file", "row", "column", "code", "message", "remedy"]
    assert {row[0] for row in rows} >= {"Quarantined row"}
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)


def test_quarantined_rows_are_shown(editor: Console, tmp_path: Path) -> None:
    page = run_upload(editor, package_bytes(invalid_package(), tmp_path), invalid_rows="quarantine")
    text = visible_text(page.text)
    assert "The package was applied" in text
    assert "2 rows of users.csv, 1 row of demographics.csv, 1 row of enrollments.csv" in text
    assert "Quarantined" in visible_text(editor.get(page.request.path, kind="quarantined").text)


def test_held_package_shows_reasons_and_thresholds(editor: Console, tmp_path: Path) -> None:
    text = visible_text(hold(editor, tmp_path).text)
    assert "Would delete 50 of 200 stored records" in text.replace("Users: would", "Would")
    assert "users: 50 would be deleted" in text
    assert "more than 10 % and 10 rows" in text
    overview = visible_text(editor.get("/imports").text)
    assert "An import is held for approval" in overview
    assert "50 records would be deleted" in overview


def test_held_package_is_approved(editor: Console, tmp_path: Path) -> None:
    path = hold(editor, tmp_path).request.path
    queued = editor.submit(path, action=f"{path}/approve")
    waiting = visible_text(editor.get(path).text)
    assert "The approval is in progress" in waiting
    assert "Approve and apply" not in waiting
    assert users(editor) == 200
    result = run_jobs(editor, queued)
    assert "The package was applied" in visible_text(result.text)
    assert result.request.path == path
    assert users(editor) == 150
    approved = [event for event in events(editor) if event["event"] == "import.approved"]
    assert [event["run"] for event in approved] == [job_id_of(result)]
    editor.get(f"{path}/changes", 404)


def test_held_package_is_discarded(editor: Console, tmp_path: Path) -> None:
    path = hold(editor, tmp_path).request.path
    page = editor.submit(path, action=f"{path}/discard")
    text = visible_text(page.text)
    assert "The package was discarded" in text
    assert "Discard" not in find_actions(page)
    assert users(editor) == 200
    assert [event["event"] for event in events(editor)][-1] == "import.discarded"
    assert not list((tmp_path / "data").rglob("run-*.zip"))


def find_actions(page: TestResponse) -> set[str]:
    return {action for action in ("Approve", "Discard") if f">{action}</summary>" in page.text}


def test_decision_is_made_once(editor: Console, tmp_path: Path) -> None:
    page = hold(editor, tmp_path)
    approve = find_form(page.text, f"{page.request.path}/approve")
    discard = find_form(page.text, f"{page.request.path}/discard")
    first = editor.post(approve.action, approve.values)
    second = editor.post(approve.action, approve.values)
    assert first.headers["Location"] == second.headers["Location"]
    assert "is being approved" in visible_text(editor.post(discard.action, discard.values, 409).text)
    editor.services.job_worker.run_pending()
    assert users(editor) == 150
    again = find_form(editor.get("/imports/upload").text, "/imports/upload").values
    del again["submission"]
    assert "is not held" in visible_text(editor.post(discard.action, again, 409).text)
    assert "cannot be approved: it is committed" in visible_text(editor.post(approve.action, again, 409).text)


def test_viewer_sees_a_held_package_but_cannot_decide(editor: Console, tmp_path: Path) -> None:
    path = hold(editor, tmp_path).request.path
    viewer = Console(editor.app)
    viewer.sign_in("viewer")
    page = viewer.get(path)
    assert find_actions(page) == set()
    assert "Ask an editor or an owner" in page.text
    viewer.get(f"{path}/changes")


def test_overtaken_package_can_only_be_discarded(editor: Console, tmp_path: Path) -> None:
    path = hold(editor, tmp_path).request.path
    run_upload(editor, package_bytes(package_with_users(201), tmp_path), "other.zip")
    page = editor.get(path)
    assert "The roster has changed since the package was held" in visible_text(page.text)
    assert find_actions(page) == {"Discard"}
    editor.get(f"{path}/changes", 404)


def test_run_of_another_tenant_is_not_found(editor: Console, tmp_path: Path) -> None:
    path = hold(editor, tmp_path).request.path
    other = Console(editor.app)
    other.sign_in("owner", "west")
    fields = find_form(other.get("/imports/upload").text, "/imports/upload").values
    del fields["submission"]
    for action in ("approve", "discard"):
        other.post(f"{path}/{action}", fields, 404)
    for page in ("", "/changes", "/problems.csv"):
        other.get(path + page, 404)
    assert users(editor) == 200
