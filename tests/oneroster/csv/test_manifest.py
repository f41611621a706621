"""Properties of `manifest.csv`."""

from __future__ import annotations

import pytest

from chalk_flask.oneroster.csv.manifest import file_modes, manifest_problems, manifest_rows
from chalk_flask.oneroster.schemas import FILES

PROPERTIES = {"manifest.version": "1.0", "oneroster.version": "1.1"} | dict.fromkeys(
    (f"file.{name}" for name in FILES), "bulk"
)


def errors(changes: dict[str, str | None], missing_file: str = "") -> list[tuple[str, str, str | None, bool]]:
    """Return code, property, value and severity of the errors after changes to valid properties (None: removed)."""
    properties = {name: value for name, value in (PROPERTIES | changes).items() if value is not None}
    data_files = [name for name in FILES if name != missing_file]
    return [
        (error.code, error.property, error.value, error.is_warning)
        for error in manifest_problems(properties, data_files)
    ]


def test_complete_manifest_has_no_errors() -> None:
    assert errors({}) == []
    assert errors({"manifest.version": "1", "source.systemName": "SIS", "source.systemCode": "7"}) == []


@pytest.mark.reading("I-21")
@pytest.mark.parametrize(
    ("name", "value"),
    [("oneroster.version", "1.2"), ("oneroster.version", None), ("manifest.version", "2.0"), ("manifest.version", "")],
)
def test_other_version_is_an_error(name: str, value: str | None) -> None:
    assert errors({name: value}) == [("bad_version", name, value, False)]


@pytest.mark.reading("I-12")
@pytest.mark.parametrize(
    ("mode", "missing_file", "expected"),
    [
        (None, "", "missing_property"),
        ("Bulk", "", "bad_mode"),
        ("absent", "", "undeclared_file"),
        ("bulk", "users", "missing_file"),
        ("delta", "users", "missing_file"),
    ],
)
def test_mode_must_match_the_files(mode: str | None, missing_file: str, expected: str) -> None:
    fatal = [error for error in errors({"file.users": mode}, missing_file) if not error[3]]
    assert fatal == [(expected, "file.users", mode, False)]


@pytest.mark.parametrize("value", ["1,1", "01. Jan", "2026-01-01", "1-Jan", "46023"])
def test_version_that_a_spreadsheet_changed_is_named(value: str) -> None:
    [problem] = manifest_problems(PROPERTIES | {"oneroster.version": value}, FILES)
    assert problem.hint == "Write 1.1: a spreadsheet may have changed it."
    [problem] = manifest_problems(PROPERTIES | {"oneroster.version": "1.2"}, FILES)
    assert problem.hint == "Export a package whose oneroster.version is 1.1."


def test_unknown_property_and_mixed_modes_are_warnings() -> None:
    assert errors({"file.users": "delta", "vendor": "x"}) == [
        ("mixed_modes", "", None, True),
        ("unknown_property", "vendor", None, True),
    ]


def test_modes_default_to_absent() -> None:
    assert file_modes({"file.users": "delta"}) == dict.fromkeys(FILES, "absent") | {"users": "delta"}


def test_written_manifest_is_valid_and_in_order_of_the_standard() -> None:
    properties = dict(manifest_rows("bulk", {"users", "orgs"}, "Chalk Flask"))
    assert list(manifest_problems(properties, ["users", "orgs"])) == []
    names = [name.removeprefix("file.") for name in properties if name.startswith("file.")]
    assert names[:6] == ["academicSessions", "categories", "classes", "classResources", "courses", "courseResources"]
    assert {name for name, mode in file_modes(properties).items() if mode == "bulk"} == {"users", "orgs"}
    assert properties["source.systemName"] == "Chalk Flask"
