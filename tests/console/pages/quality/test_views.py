"""Pages of the data quality: counts, the records of a check, and warnings of the last import."""

from __future__ import annotations

import pytest

from chalk_flask.console.pages.quality import views
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports.history import ImportRun, store_run
from chalk_flask.roster.quality import CHECKS, QualityAnalyzer
from chalk_flask.times import format_timestamp, utc_now
from tests.support.console.client import Console, links_of, visible_text
from tests.support.small_roster import user


@pytest.fixture
def viewer(console: Console, monkeypatch: pytest.MonkeyPatch) -> Console:
    """Browser of a viewer, whose pages wait for the analysis of the roster."""
    monkeypatch.setattr(views, "WAIT_SECONDS", 20.0)
    console.sign_in("viewer")
    return console


def put_users(console: Console, count: int) -> None:
    people = [user(f"n-{n:03}", "aide", "A", "B", ["s-1"], email="") for n in range(count)]
    with console.services.store.write("default") as transaction:
        transaction.put("users", [FILES["users"].record(person) for person in people])


def put_run(console: Console, *warnings: dict[str, object], quarantined: dict[str, int] | None = None) -> None:
    """Store a committed import with these warnings."""
    report = {"sha256": None, "dateLastModified": None, "warnings": list(warnings), "quarantined": quarantined or {}}
    run = ImportRun(
        id="run-7",
        tenant="default",
        state="committed",
        who="pat",
        started=format_timestamp(utc_now()),
        options={},
        report=report,
    )
    with console.services.store.write("default") as transaction:
        store_run(transaction, run, utc_now())


def warning(code: str, **members: object) -> dict[str, object]:
    common = {"code": code, "message": "The value ... is unusual", "remedy": "Use a standard code.", "file": "users"}
    return {**common, "row": 4, "column": "grades", "value": None, **members}


def test_overview_links_the_records_of_each_check(viewer: Console) -> None:
    put_users(viewer, 3)
    page = viewer.get("/quality")
    text = visible_text(page.text)
    assert "People without an e-mail address 3" in text
    assert "Classes without a teacher 1" in text
    assert "Enrollments of deleted or missing people none" in text
    assert "/quality/records/users-without-email" in set(links_of(page.text))
    listed = viewer.get("/quality/records/users-without-email")
    assert {f"/roster/users/n-{n:03}" for n in range(3)} <= set(links_of(listed.text))


def test_records_of_a_check_have_pages(viewer: Console) -> None:
    put_users(viewer, 30)
    page = viewer.get("/quality/records/users-without-email")
    assert "1–25 of 30 records" in visible_text(page.text)
    following = next(link for link in links_of(page.text) if "offset=25" in link)
    assert "/roster/users/n-029" in set(links_of(viewer.get(following).text))


def test_every_check_has_a_page(viewer: Console) -> None:
    for check in CHECKS:
        assert check.title in visible_text(viewer.get(f"/quality/records/{check.id}").text)
    viewer.get("/quality/records/unknown", 404)


def test_page_shows_that_the_analysis_is_running(viewer: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer.get("/quality")
    put_users(viewer, 1)
    monkeypatch.setattr(views, "WAIT_SECONDS", 0.0)
    analyzer: QualityAnalyzer = viewer.app.extensions["chalk.quality"]
    with analyzer._analysis_lock:  # another analysis, which takes long
        page = viewer.get("/quality")
        assert "The roster has changed since these counts" in visible_text(page.text)
        assert 'data-quality-state="/quality/state"' in page.text
        assert viewer.get("/quality/state").json == {"current": False}
        assert "The list is being updated" in visible_text(viewer.get("/quality/records/users-without-email").text)
    monkeypatch.setattr(views, "WAIT_SECONDS", 20.0)
    assert "People without an e-mail address 1" in visible_text(viewer.get("/quality").text)
    assert viewer.get("/quality/state").json == {"current": True}


def test_warnings_of_the_last_import_are_counted_by_kind(viewer: Console) -> None:
    put_run(
        viewer,
        warning("unexpected-grade"),
        warning("unexpected-grade", row=9),
        warning("odd"),
        quarantined={"users": 2},
    )
    page = viewer.get("/quality")
    text = visible_text(page.text)
    assert "Unexpected grade 2 Use a standard code." in text
    assert "2 of users.csv" in text
    assert any(link.endswith("?kind=quarantined#problems") for link in links_of(page.text))
    assert "/quality/warnings/unexpected-grade" in set(links_of(page.text))
    text = visible_text(viewer.get("/quality/warnings/unexpected-grade").text)
    assert "users 4 grades The value ... is unusual" in text
    assert "users 9 grades" in text
    viewer.get("/quality/warnings/unknown", 404)


def test_import_without_warnings_is_mentioned(viewer: Console) -> None:
    assert "No import has changed this roster yet" in visible_text(viewer.get("/quality").text)
    put_run(viewer)
    assert "had no warnings" in visible_text(viewer.get("/quality").text)


def test_quality_of_other_tenants_is_separate(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "WAIT_SECONDS", 20.0)
    put_users(console, 2)
    put_run(console, warning("odd"))
    console.sign_in("viewer", "west")
    text = visible_text(console.get("/quality").text)
    assert "People without an e-mail address none" in text
    assert "No import has changed this roster yet" in text
