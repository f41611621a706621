"""References of a bulk package to records that do not exist. Delta files: see `imports/test_delta.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chalk_flask.oneroster.fields.composites import RefField
from chalk_flask.oneroster.schemas import FILES
from tests.roster.package.rejections import FilledStore, problem_places
from tests.support.packages import PackageBuilder


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
