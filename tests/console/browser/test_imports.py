"""Imports in a browser: a package that is applied, one that is rejected, and one that is held and approved."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest

from tests.console.browser.conftest import EMPTY_TENANT, District
from tests.e2e.conftest import DEMO, run_command
from tests.support.console.browser import Console, serious_violations

pytestmark = pytest.mark.slow


def test_packages_are_applied_rejected_and_held(signed_out: Console, district: District, tmp_path: Path) -> None:
    console, page = signed_out, signed_out.page
    name = "imports-admin"
    created = run_command(district.folder, "admin", "create", name, "--tenant", EMPTY_TENANT, "--json")
    console.sign_in(name, json.loads(created)["password"])

    _upload(console, _package(tmp_path / "valid.zip"))
    page.get_by_text("The package was applied").first.wait_for()
    assert console.is_wider_than_window() is False

    _upload(console, _package(tmp_path / "invalid.zip", without="orgs"))
    page.get_by_text("The package was rejected").first.wait_for()
    assert page.get_by_role("link", name="Download as CSV").is_visible()
    assert serious_violations(page) == []

    _upload(console, _package(tmp_path / "held.zip", halved="enrollments"))
    page.get_by_text("Why the package is held").first.wait_for()
    assert serious_violations(page) == []
    page.get_by_role("link", name="would be deleted").first.click()
    page.get_by_role("heading", name="enrollments").first.wait_for()
    page.go_back()
    console.tab_to("Approve")
    page.keyboard.press("Enter")
    console.tab_to("Approve and apply")
    page.keyboard.press("Enter")
    page.get_by_text("The package was applied").first.wait_for()


def _upload(console: Console, package: Path) -> None:
    """Choose a package in the form and send it; then wait for the end of its job."""
    console.open("/imports/upload")
    console.page.get_by_label("Package", exact=True).set_input_files(package)
    console.page.get_by_role("button", name="Upload").click()
    console.page.wait_for_url("**/imports/*-*")


def _package(path: Path, *, without: str = "", halved: str = "") -> Path:
    """Write the sample district as a ZIP file, without the rows of one file or with half the rows of another."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(DEMO.glob("*.csv")):
            header, *rows = list(csv.reader(file.read_text(encoding="utf-8").splitlines()))
            rows = rows[::2] if file.stem == halved else [] if file.stem == without else rows
            text = io.StringIO()
            csv.writer(text, lineterminator="\r\n").writerows([header, *rows])
            archive.writestr(file.name, text.getvalue())
    return path
