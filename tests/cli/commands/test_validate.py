"""Command `validate`: the checks of an import without a store, exit codes, and the HTML report."""

from __future__ import annotations

import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.cli.conftest import SAMPLE, RunCommand
from tests.support.packages import PackageBuilder, delta_package, small_row


def test_valid_package_has_exit_code_0_and_creates_nothing(run: RunCommand, tmp_path: Path) -> None:
    result = run("validate", SAMPLE, "--json")
    assert result.code == 0
    assert (result.json["valid"], result.json["errorCount"], result.json["profile"]) == (True, 0, "default")
    assert result.json["files"]["users"]["mode"] == "bulk"
    assert result.json["files"]["users"]["rows"] > 10
    assert re.fullmatch("[0-9a-f]{64}", result.json["sha256"])
    assert not list(tmp_path.iterdir())
    text = run("validate", SAMPLE).out
    assert text.startswith("demo: Valid, no warnings.\n")
    assert re.search(r"^users +[0-9]+ rows \(bulk\)$", text, re.MULTILINE)


def test_invalid_package_has_exit_code_1_and_lists_errors(run: RunCommand, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-1", role="tutor").set("orgs", "org-1", dateLastModified="soon")
    path = package.zip(tmp_path / "package.zip")
    result = run("validate", path, "--json")
    assert (result.code, result.json["valid"]) == (1, False)
    assert [(error["file"], error["row"], error["column"]) for error in result.json["errors"]] == [
        ("users.csv", 2, "role")
    ]
    assert [warning["code"] for warning in result.json["warnings"]] == ["filled_state"]
    headline, first_line, *_ = run("validate", path).out.splitlines()
    assert headline == "package.zip: Invalid: 1 error, 1 warning."
    assert first_line.startswith("users.csv, row 2, column role: 'tutor' is not one of")
    assert [path.name for path in tmp_path.iterdir()] == ["package.zip"]


def test_missing_package_and_unknown_profile_have_exit_codes(run: RunCommand, tmp_path: Path) -> None:
    missing = run("validate", "missing.zip", "--json")
    assert (missing.code, missing.json["errors"][0]["code"]) == (1, "not_found")
    message = f"there is no file or folder '{tmp_path}/missing.zip'"
    assert missing.json["errors"][0]["message"] == message
    assert message in run("import", "missing.zip").err
    assert run("validate", SAMPLE, "--profile", "other").code == 2


def test_errors_are_those_of_an_import(run: RunCommand, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-1", enabledUser="Y").set("results", "result-1", score="9,5")
    package.set("classes", "class-1", schoolSourcedId="org-9").rows["enrollments"].append({"sourcedId": "enr-1"})
    path = package.folder(tmp_path / "package")
    validated, imported = run("validate", path, "--json").json, run("import", path, "--json").json
    assert len(imported["errors"]) >= 4
    for member in ("errors", "errorCounts", "errorCount", "warnings", "sha256"):
        assert validated[member] == imported[member]


def test_lenient_profile_accepts_tolerances(run: RunCommand, tmp_path: Path) -> None:
    path = PackageBuilder().set("enrollments", "enr-2", role="aide").folder(tmp_path / "package")
    assert run("validate", path).code == run("validate", path, "--profile", "strict").code == 1
    result = run("validate", path, "--profile", "lenient", "--json")
    assert (result.code, result.json["profile"]) == (0, "lenient")
    assert [warning["code"] for warning in result.json["warnings"]] == ["tolerated_role"]


def test_settings_of_imports_are_options(run: RunCommand, tmp_path: Path) -> None:
    path = PackageBuilder().set("enrollments", "enr-2", role="tutor").folder(tmp_path / "package")
    assert run("validate", path, "--import-role-map", "tutor=teacher").code == 0
    assert run("validate", path, "--map-enrollment-roles", "true").code == 0
    assert run("validate", SAMPLE, "--import-max-entries", "3").code == 1
    assert run("validate", SAMPLE, "--storage", "memory:").code == 2


def test_references_to_absent_files_are_not_checked(run: RunCommand, tmp_path: Path) -> None:
    path = PackageBuilder().only("users", "demographics").folder(tmp_path / "package")
    assert run("validate", path).code == 0
    assert run("import", path).code == 1
    delta = delta_package(users=[small_row("users", "pupil-1")]).folder(tmp_path / "delta")
    assert run("validate", delta).code == 0


def test_references_within_the_package_are_checked(run: RunCommand, tmp_path: Path) -> None:
    package = PackageBuilder().only("users", "demographics")
    package.set("users", "pupil-1", agentSourcedIds="parent-9").set("demographics", "pupil-1", sourcedId="pupil-9")
    result = run("validate", package.folder(tmp_path / "package"), "--json")
    assert [(error["code"], error["file"]) for error in result.json["errors"]] == [
        ("dangling_reference", "users.csv"),
        ("dangling_reference", "demographics.csv"),
    ]


class ReportParser(HTMLParser):
    """Parser that collects the tags, the attributes and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_report_is_escaped_and_refers_to_nothing(run: RunCommand, tmp_path: Path) -> None:
    package = PackageBuilder().set("orgs", "org-1", type="<script>alert(1)</script>")
    package.raw["<img src=x>.csv"] = b""
    package.set("users", "pupil-1", password="unspeakable-1", givenName="Ada", role="'\" onclick=")
    path = package.zip(tmp_path / "<b>package.zip")
    assert run("validate", path, "--html", "report.html").code == 1
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    parsed = ReportParser(page)
    assert not parsed.tags & {"script", "img", "b", "link", "iframe", "object", "form", "a"}
    assert parsed.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class"}
    assert "//" not in page
    assert "default-src 'none'" in page
    for expected in ("<script>alert(1)</script>", "<img src=x>.csv", "<b>package.zip", "Invalid: 2 errors, 1 warning."):
        assert expected in parsed.text
    assert "Ada" not in page
    assert "unspeakable" not in page


def test_html_report_counts_errors_that_it_does_not_list(run: RunCommand, tmp_path: Path) -> None:
    package = PackageBuilder()
    user = package.row("users")
    package.rows["users"] += [user | {"sourcedId": f"u-{number}", "role": f"?{number}"} for number in range(150)]
    run("validate", package.folder(tmp_path / "package"), "--html", "report.html")
    text = ReportParser((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "130 errors are not listed above." in text
    assert "bad_value" in text


def test_html_report_of_a_valid_package_lists_its_files(run: RunCommand, tmp_path: Path) -> None:
    assert run("validate", SAMPLE, "--html", "report.html").code == 0
    text = ReportParser((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "Valid, no warnings." in text
    assert "enrollments.csv" in text
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == 0o600


@pytest.mark.parametrize("target", ["missing/report.html", "."])
def test_unwritable_html_report_is_an_error(run: RunCommand, target: str) -> None:
    result = run("validate", SAMPLE, "--html", target, "--json")
    assert result.code in (1, 2)
    assert "error" in result.json
