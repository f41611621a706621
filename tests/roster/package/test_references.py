"""References of a package to records that do not exist. Further cases of delta files: see `imports/test_delta.py`."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backends import Backend
from chalk_flask.oneroster.fields.composites import RefField
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import ImportOptions, ImportReport, import_package
from chalk_flask.roster.imports.validation import validate_package
from tests.roster.conftest import UNLIMITED, Load, objects
from tests.roster.package.rejections import FilledStore, problem_places
from tests.support.packages import PackageBuilder, delta_package, small_row


def reference_cells() -> Iterator[tuple[str, str, str]]:
    """Yield file, column and invalid cell for each column with references."""
    for name, resource_type in FILES.items():
        for header, _, element in resource_type.columns:
            if isinstance(element, RefField):
                yield name, header, "unknown"
    yield "demographics", "sourcedId", "unknown"
    yield "users", "orgSourcedIds", "org-2,unknown"
    yield "users", "agentSourcedIds", "unknown,pupil-1"


@pytest.mark.reading("I-07")
@pytest.mark.parametrize(("name", "column", "cell"), list(reference_cells()))
def test_reference_to_unknown_record_is_rejected(
    filled: FilledStore, tmp_path: Path, name: str, column: str, cell: str
) -> None:
    package = PackageBuilder().set(name, "", **{column: cell})
    places = problem_places(filled.reject(package.folder(tmp_path / "package")))
    assert ("dangling_reference", f"{name}.csv", 2, column, "unknown") in places


def test_references_to_incomplete_file_are_not_checked(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder()
    package.raw["users.csv"] = package.files()["users.csv"] + b'"\n'
    places = problem_places(filled.reject(package.folder(tmp_path / "package")))
    assert [place[:3] for place in places] == [("bad_csv", "users.csv", 6)]


def error_texts(report: ImportReport) -> list[str]:
    """Return the errors of a package that must be rejected."""
    assert report.state == "refused"
    return report.problems.to_text()


def with_agents(*agents: str) -> PackageBuilder:
    """Return the small package with a further user for each of these lists of agents."""
    package = PackageBuilder()
    template = small_row("users", "pupil-2")
    package.rows["users"] += [
        template | {"sourcedId": f"u-{number}", "agentSourcedIds": cell} for number, cell in enumerate(agents)
    ]
    return package


@pytest.mark.reading("I-07")
def test_changed_ids_of_records_in_later_rows_are_named_once(store: Backend, load: Load) -> None:
    package = with_agents("PUPIL-1", "Parent-1,U-3", "U-3,PUPIL-1", "")
    [text] = error_texts(load(store, package, "refused"))
    assert text.startswith(
        "users.csv, row 6, column agentSourcedIds: refers to a record whose id in users.csv differs in letter case"
        " (3 rows: 6, 7, 8) (value 'PUPIL-1')."
    )


def test_changed_ids_of_records_in_later_files_are_named_once(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    for key, target in (("cr-2", "0course-1"), ("cr-3", "00course-1")):
        package.rows["courseResources"].append(small_row("courseResources", "cr-1", sourcedId=key))
        package.set("courseResources", key, courseSourcedId=target)
    [text] = error_texts(load(store, package, "refused"))
    assert "courseResources.csv, row 3, column courseSourcedId: refers to a record whose id in courses.csv" in text
    assert "differs in leading zeros (2 rows: 3, 4)" in text


def test_one_unknown_record_in_later_rows_is_listed_with_its_rows(store: Backend, load: Load) -> None:
    first, second = error_texts(load(store, with_agents("nobody-1", "x", "nobody-1"), "refused"))
    assert "row 6, column agentSourcedIds: refers to a record that is not in users.csv (2 rows: 6, 8)" in first
    assert "row 7, column agentSourcedIds: refers to a record that is not in users.csv (value 'x')" in second


DECOMPOSED = unicodedata.normalize("NFD", "Zoé")
CHANGES = [
    ("00841", "841", "leading zeros"),
    ("8401", "8401.0", "the decimals .0 at its end"),
    ("S01", "s01", "letter case"),
    ("Zoé", DECOMPOSED, "the Unicode form of its letters"),
    ("S-01", "S\N{NON-BREAKING HYPHEN}01", "a typographic dash"),
    ("S-01", "S\N{EN DASH}01", "a typographic dash"),
]


def org_row(key: str) -> dict[str, str]:
    """Return the row of a school with this id."""
    return small_row("orgs", "org-3", sourcedId=key)


@pytest.mark.reading("I-07")
@pytest.mark.parametrize(("stored", "reference", "change"), CHANGES)
def test_changed_id_of_a_stored_record_is_named(
    store: Backend, load: Load, stored: str, reference: str, change: str
) -> None:
    package = PackageBuilder()
    package.rows["orgs"].append(org_row(stored))
    load(store, package)
    users = [small_row("users", "pupil-2", sourcedId=f"u-{number}", orgSourcedIds=reference) for number in range(3)]
    expected = f"refers to a record whose id in the store differs in {change} (3 rows: "
    for name, other in (("delta", delta_package(users=users)), ("bulk", with_agents().only("users"))):
        if name == "bulk":
            other.rows["users"] += users
        [text] = error_texts(load(store, other, "refused"))
        assert expected in text
        assert "format the columns as text" in text


@pytest.mark.parametrize(("stored", "reference", "change"), CHANGES)
def test_changed_id_of_a_delta_row_is_named(
    store: Backend, load: Load, stored: str, reference: str, change: str
) -> None:
    load(store, PackageBuilder())
    user = small_row("users", "pupil-2", orgSourcedIds=reference)
    package = delta_package(orgs=[org_row(stored)], users=[user])
    [text] = error_texts(load(store, package, "refused"))
    assert f"refers to a record whose id in orgs.csv differs in {change} (value" in text


def test_changed_id_of_a_deleted_record_is_not_named(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    rows = {"orgs": [{"sourcedId": "org-3", "status": "tobedeleted"}]}
    package = delta_package(users=[small_row("users", "pupil-2", orgSourcedIds="ORG-3")], **rows)
    package.rows["orgs"][0]["dateLastModified"] = package.rows["users"][0]["dateLastModified"]
    [text] = error_texts(load(store, package, "refused"))
    assert "differs" not in text
    assert "is not in orgs.csv or active in the store" in text


def test_changed_id_is_the_reason_of_a_quarantined_row(store: Backend, load: Load) -> None:
    options = replace(UNLIMITED, invalid_rows="quarantine")
    report = load(store, with_agents("PUPIL-1", "U-0"), options=options)
    assert [(problem.row, problem.value) for problem in report.quarantined_rows] == [(6, "PUPIL-1"), (7, "U-0")]
    assert all("in users.csv differs in letter case" in problem.message for problem in report.quarantined_rows)
    delta = delta_package(users=[small_row("users", "pupil-2", sourcedId="u-9", orgSourcedIds="Org-2")])
    [problem] = load(store, delta, "unchanged", options).quarantined_rows
    assert "in the store differs in letter case" in problem.message
    assert set(objects(store, "users")) == {"pupil-1", "pupil-2", "teacher-1", "parent-1"}


def test_validation_names_changed_ids_like_an_import(store: Backend, tmp_path: Path) -> None:
    package = with_agents("PUPIL-1", "Parent-1").set("enrollments", "enr-1", userSourcedId="Pupil-1")
    path = package.zip(tmp_path / "package.zip")
    expected = import_package(store, "default", path, ImportOptions()).problems.to_text()
    assert len(expected) == 2
    assert validate_package(path, ImportOptions()).problems.to_text() == expected
