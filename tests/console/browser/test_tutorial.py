"""Tutorial for administrators: each label that it names is used in its order, in the demo and a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser, Locator

from tests.support.console.browser import DESKTOP, Console
from tests.support.console.demo import RunningDemo, run_demo
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

TUTORIAL = ROOT / "docs" / "tutorials" / "administrator.md"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    with run_demo(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


class Reader:
    """Reader of the tutorial, who uses the elements with its labels. A label must be the next one of the text."""

    def __init__(self, console: Console, text: str) -> None:
        self.console, self.page = console, console.page
        self.labels = [re.sub(r"\s+", " ", label) for label in re.findall(r"\*\*(.+?)\*\*", text, re.DOTALL)]

    def read(self, label: str) -> None:
        """Check that the label is the next one of the tutorial."""
        assert self.labels.pop(0) == label

    def click(self, label: str) -> None:
        """Click the element with the next label."""
        self.read(label)
        self._find(label).click()

    def fill(self, label: str, value: str) -> None:
        """Enter a value into the field with the next label."""
        self.read(label)
        self.page.get_by_label(label, exact=True).fill(value)

    def download(self, label: str, folder: Path) -> Path:
        """Click the link with the next label, and return the file that the browser downloads."""
        with self.page.expect_download() as downloading:
            self.click(label)
        path = folder / downloading.value.suggested_filename
        downloading.value.save_as(path)
        return path

    def choose_file(self, label: str, path: Path) -> None:
        """Choose a file in the field with the next label."""
        self.read(label)
        self.page.get_by_label(label, exact=True).set_input_files(path)

    def sees(self, text: str) -> None:
        """Wait until the page contains a text."""
        self.page.get_by_text(text).first.wait_for()

    def open_demo(self) -> None:
        """Return to the page of the demo as the tutorial says."""
        self.click("Demo")

    def _find(self, label: str) -> Locator:
        page = self.page
        exact = page.get_by_role("link", name=label, exact=True).or_(page.get_by_role("button", name=label, exact=True))
        others = page.get_by_role("link", name=label).or_(page.locator("summary", has_text=label))
        choices = page.get_by_label(label)
        exact.or_(others).or_(choices).first.wait_for()
        return next(found for found in (exact, others, choices) if found.count()).first


@pytest.fixture
def reader(browser: Browser, demo: RunningDemo) -> Iterator[Reader]:
    with browser.new_context(viewport=DESKTOP, reduced_motion="reduce") as context:
        console = Console(context.new_page(), demo.url)
        yield Reader(console, TUTORIAL.read_text(encoding="utf-8"))
        assert console.complaints == []


def test_tutorial_leads_to_an_approved_import_and_a_webhook(reader: Reader, demo: RunningDemo, tmp_path: Path) -> None:
    _sign_in(reader, demo)
    _import_package(reader, tmp_path)
    _look_at_data(reader)
    _create_token(reader)
    _approve_held(reader, tmp_path)
    _create_webhook(reader)
    _manage(reader, demo)
    assert reader.labels == []


def _sign_in(reader: Reader, demo: RunningDemo) -> None:
    reader.console.open("/")
    reader.fill("Name", demo.name)
    reader.fill("Password", demo.password)
    reader.click("Sign in")
    reader.sees("This is a demo")


def _import_package(reader: Reader, folder: Path) -> None:
    reader.click("Try an import and a webhook")
    package = reader.download("A few changes", folder)
    assert package.name == "few-changes.zip"
    reader.click("Upload a package")
    reader.choose_file("Package", package)
    reader.click("Dry run")
    reader.click("Upload")
    reader.sees("This was a dry run")
    reader.click("Import now")
    reader.sees("The package was applied")
    reader.read("Problems")
    reader.sees("There were no errors and no warnings")
    reader.click("Imports")
    reader.sees("History")


def _look_at_data(reader: Reader) -> None:
    reader.click("Data quality")
    reader.click("People without an e-mail address")
    reader.sees("guardian")
    reader.click("Roster")
    reader.click("Students")
    reader.page.locator("tbody th a").first.click()
    reader.sees("Fields")


def _create_token(reader: Reader) -> None:
    page = reader.page
    reader.click("API tokens")
    reader.click("Generate token")
    reader.fill("Label", "Reading app")
    reader.click("Restrict what it sees")
    page.get_by_label("Northgate High School").check()
    reader.click("Generate token")
    reader.sees("chk_live_")
    reader.click("Copy token")
    reader.click("What can this token see?")
    reader.sees("Counts and responses")
    assert _number_of(reader, "users") < 77


def _number_of(reader: Reader, collection: str) -> int:
    row = reader.page.get_by_role("row", name=re.compile(rf"^{collection}\b"))
    return int(row.locator("td").first.inner_text())


def _approve_held(reader: Reader, folder: Path) -> None:
    reader.open_demo()
    package = reader.download("An incomplete export", folder)
    assert package.name == "missing-enrollments.zip"
    reader.click("Upload a package")
    reader.choose_file("Package", package)
    reader.click("Upload")
    reader.sees("Why the package is held")
    reader.click("would be deleted")
    reader.sees("Would be deleted: enrollments")
    reader.click("Held import")
    reader.sees("Why the package is held")
    reader.read("Discard")
    assert reader.page.get_by_text("Discard", exact=True).first.is_visible()
    reader.click("Approve")
    reader.click("Approve and apply")
    reader.sees("The package was applied")


def _create_webhook(reader: Reader) -> None:
    reader.open_demo()
    reader.click("New webhook")
    reader.fill("Label", "Reading app")
    reader.click("Create webhook")
    reader.sees("whsec_")
    reader.click("Copy secret")
    reader.click("Send test event")
    reader.sees("The test event was delivered: status 200")
    reader.open_demo()
    assert reader.page.get_by_role("link", name=re.compile("^evt-")).count() == 1


def _manage(reader: Reader, demo: RunningDemo) -> None:
    reader.click("Audit log")
    reader.page.get_by_role("cell", name="Import approved").first.wait_for()
    reader.read("Export CSV")
    assert reader.page.get_by_role("link", name="Export CSV").is_visible()
    reader.click("Administrators")
    reader.click("New administrator")
    reader.fill("Sign-in name", "front-office")
    reader.click("Editor")
    reader.click("Create administrator")
    reader.sees("Copy the password now")
    reader.click("Copy password")
    reader.page.get_by_role("link", name=demo.name, exact=True).click()
    reader.click("Turn on")
    reader.fill("Code of the app", pyotp.TOTP(reader.page.inner_text("#totp-secret").strip()).now())
    reader.fill("Current password", demo.password)
    reader.click("Turn on")
    reader.click("Copy codes")
    reader.click("Sign out")
    reader.sees("Sign in")
