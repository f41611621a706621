"""Changes of a held package: records that would be deleted, and fields that would change."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from tests.support.console.api_paths import record_api_paths
from tests.support.console.client import Console, visible_text
from tests.support.console.imports import package_bytes, run_upload
from tests.support.packages import PackageBuilder, package_with_extra_users

MARKUP = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "javascript:alert(1)",
    "\u202egnirts",
    "<" * 120,
)
"""Names that an unescaped page would interpret."""


def changed_package() -> PackageBuilder:
    """Return a package without most extra users, with changed names, an unknown school and changed demographics."""
    package = package_with_extra_users(range(130, 140))
    package.set("users", "pupil-1", givenName="Renamed", email="new@example.org", orgSourcedIds="org-3")
    package.set("users", "pupil-2", givenName=MARKUP[0])
    return package.set("demographics", "pupil-1", birthDate="2014-12-24")


@pytest.fixture
def held(empty_console: Console, tmp_path: Path) -> str:
    """Path of a held run; an editor is signed in."""
    empty_console.sign_in("editor")
    run_upload(empty_console, package_bytes(package_with_extra_users(range(100, 140), MARKUP[1]), tmp_path))
    return run_upload(empty_console, package_bytes(changed_package(), tmp_path)).request.path


def test_deleted_users_are_listed_by_name(empty_console: Console, held: str) -> None:
    page = empty_console.get(f"{held}/changes")
    text = visible_text(page.text)
    assert "Would be deleted: users" in text
    assert "u-100" in text
    assert "1–25 of 30 changes" in text
    assert "u-129" in visible_text(empty_console.get(f"{held}/changes", offset="25").text)
    assert "&lt;img src=x onerror=alert(1)&gt; O&#39;Brien" in page.text


def test_deleted_enrollments_say_who_leaves_which_class(
    empty_console: Console, empty_app: Flask, tmp_path: Path
) -> None:
    empty_console.sign_in("editor")
    run_upload(empty_console, package_bytes(package_with_extra_users(range(100, 140)), tmp_path))
    package = PackageBuilder().drop("enrollments", "enr-1")
    path = run_upload(empty_console, package_bytes(package, tmp_path)).request.path
    with record_api_paths(empty_app) as paths:
        page = empty_console.get(f"{path}/changes", file="enrollments", outcome="deleted")
    assert paths == ["enrollments", "users", "classes"]
    assert "<bdi>Pupil-1 O&#39;Brien</bdi> as student in <bdi>Arithmetic class-1</bdi>" in page.text
    assert 'href="/roster/enrollments/enr-1"' in page.text


def test_changed_fields_are_listed_with_both_values(empty_console: Console, held: str) -> None:
    text = visible_text(empty_console.get(f"{held}/changes", file="users", outcome="updated").text)
    assert "Pupil-1 O'Brien pupil-1" in text
    for field, before, after in (
        ("givenName", "Pupil-1", "Renamed"),
        ("email", "empty", "new@example.org"),
        ("orgs", "org-2", "org-3"),
    ):
        assert f"{field} {before} {after}" in text
    assert "dateLastModified" not in text


def test_markup_in_cells_is_escaped(empty_console: Console, tmp_path: Path) -> None:
    empty_console.sign_in("editor")
    run_upload(empty_console, package_bytes(package_with_extra_users(range(100, 140)), tmp_path))
    package = package_with_extra_users(range(100, 100 + len(MARKUP)))
    for number, markup in enumerate(MARKUP, 100):
        package.set("users", f"u-{number}", givenName=markup, identifier=markup)
    package.set("orgs", "org-1", name=MARKUP[0])
    path = run_upload(empty_console, package_bytes(package, tmp_path), "<img src=x onerror=alert(1)>.zip").request.path
    for params in ({"file": "users", "outcome": "updated"}, {"file": "orgs"}, {"file": "users", "outcome": "deleted"}):
        text = empty_console.get(f"{path}/changes", 200, **params).text
        assert "<script>alert" not in text
        assert "<img" not in text
    for page in (path, "/imports", "/"):
        assert "<img" not in empty_console.get(page).text
    assert "{{ 7 * 7 }}" in empty_console.get(f"{path}/changes", file="users", outcome="updated").text


def test_demographics_are_listed_by_id_only(empty_console: Console, held: str) -> None:
    text = visible_text(empty_console.get(f"{held}/changes", file="demographics").text)
    assert "pupil-1" in text
    assert "Demographics are listed by id only" in text
    assert "2014-12-24" not in text
    assert "2015-01-31" not in text


def test_unknown_selection_shows_the_first_changes(empty_console: Console, held: str) -> None:
    for params in ({"file": "nothing"}, {"outcome": "unchanged"}, {"file": "orgs", "outcome": "deleted"}):
        assert "Would be deleted: users" in visible_text(empty_console.get(f"{held}/changes", 200, **params).text)
    assert "No changes are listed" in empty_console.get(f"{held}/changes", offset="5000").text


def test_changes_are_read_only(empty_console: Console, held: str) -> None:
    version = empty_console.services.store.version("default")
    for outcome in ("deleted", "updated"):
        empty_console.get(f"{held}/changes", file="users", outcome=outcome)
    assert empty_console.services.store.version("default") == version
