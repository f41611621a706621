"""Random damage to a package: it is rejected, or applied in full, and the store stays valid."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import Backend, open_store
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import bodies
from tests.support.packages import HEADERS, ROWS, PackageBuilder

many_examples = settings(
    max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

TEXTS = sorted(
    {cell for rows in ROWS.values() for row in rows for cell in row.values()} | {"", ",", "active", "2024-02-30"}
)

PIECES = [*b'",\r\n\0\xff\xef\xbb\xbf\\ {}:;', *b"0a-"]


@pytest.fixture(scope="module")
def filled() -> Iterator[Backend]:
    """Store with the small roster, possibly changed by a damaged package."""
    with open_store("memory:", COLLECTIONS) as store, tempfile.TemporaryDirectory() as folder:
        import_package(store, "default", PackageBuilder().folder(Path(folder) / "package"), ImportOptions())
        yield store


def check_import(store: Backend, path: Path, *, lenient: bool = False) -> None:
    """Import a package that may be invalid, and check the store."""
    before = bodies(store)
    report = import_package(store, "default", path, ImportOptions(reading=ReadingOptions(lenient=lenient)))
    assert report.to_text().encode()
    if report.state == "committed":
        assert check_store(store).problems == []
    else:
        assert (report.state == "refused") == bool(report.problems.errors)
        assert bodies(store) == before


def damaged(content: bytes, changes: Sequence[tuple[float, int, int]]) -> bytes:
    """Return the content with bytes replaced (kind 0), inserted (1) or removed (2), each at a part of the length."""
    result = bytearray(content)
    for part, kind, byte in changes:
        start = int(part * len(result))
        result[start : start + (kind != 1)] = bytes([byte] * (kind != 2))
    return bytes(result)


part = st.floats(0, 1, exclude_max=True)
kind = st.integers(0, 2)


@many_examples
@given(
    name=st.sampled_from([*FILES, "manifest"]),
    changes=st.lists(st.tuples(part, kind, st.sampled_from(PIECES)), min_size=1, max_size=4),
    lenient=st.booleans(),
)
def test_file_with_damaged_bytes(
    filled: Backend, name: str, changes: list[tuple[float, int, int]], lenient: bool, tmp_path: Path
) -> None:
    package = PackageBuilder()
    package.raw[f"{name}.csv"] = damaged(package.files()[f"{name}.csv"], changes)
    check_import(filled, package.folder(tmp_path / "package"), lenient=lenient)


@many_examples
@given(changes=st.lists(st.tuples(part, kind, st.integers(0, 255)), min_size=1, max_size=4))
def test_zip_with_damaged_bytes(filled: Backend, changes: list[tuple[float, int, int]], tmp_path: Path) -> None:
    path = PackageBuilder().only("orgs").zip(tmp_path / "package.zip")
    path.write_bytes(damaged(path.read_bytes(), changes))
    check_import(filled, path)


@st.composite
def swaps(draw: st.DrawFn) -> tuple[str, int, str, str]:
    """Draw a cell of the package and a text to write over it."""
    name = draw(st.sampled_from(list(FILES)))
    row = draw(st.integers(0, len(ROWS[name]) - 1))
    return name, row, draw(st.sampled_from(HEADERS[name])), draw(st.sampled_from(TEXTS) | st.text(max_size=5))


@many_examples
@given(changes=st.lists(swaps(), min_size=1, max_size=3), lenient=st.booleans())
def test_changed_cells(
    filled: Backend, changes: list[tuple[str, int, str, str]], lenient: bool, tmp_path: Path
) -> None:
    package = PackageBuilder()
    for name, row, column, text in changes:
        package.rows[name][row][column] = text.encode("utf-8", "replace").decode()
    check_import(filled, package.folder(tmp_path / "package"), lenient=lenient)
