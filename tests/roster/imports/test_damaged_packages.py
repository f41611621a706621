"""Whatever happens to a package's bytes on the way: it is refused, or it is read and the store is sound."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import Backend, open_store
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from chalk_flask.roster.verify.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import bodies
from tests.support.packages import HEADERS, ROWS, Made

often = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

TEXTS = sorted(
    {cell for rows in ROWS.values() for row in rows for cell in row.values()} | {"", ",", "active", "2024-02-30"}
)

PIECES = [*b'",\r\n\0\xff\xef\xbb\xbf\\ {}:;', *b"0a-"]


@pytest.fixture(scope="module")
def known() -> Iterator[Backend]:
    """A store that holds the roster, or whatever a damaged package made of it."""
    with open_store("memory:", COLLECTIONS) as store, tempfile.TemporaryDirectory() as folder:
        import_package(store, "default", Made().folder(Path(folder) / "package"), ImportOptions())
        yield store


def survive(store: Backend, path: Path) -> None:
    """Import a package of which nobody knows what it is."""
    before = bodies(store)
    report = import_package(store, "default", path, ImportOptions())
    assert report.to_text().encode()
    if report.state == "committed":
        assert check_store(store).problems == []
    else:
        assert (report.state == "refused") == bool(report.problems.errors)
        assert bodies(store) == before


def damaged(content: bytes, changes: Sequence[tuple[float, int, int]]) -> bytes:
    """Some bytes replaced (kind 0), put in (1) or left out (2), each at a part of the length."""
    result = bytearray(content)
    for part, kind, byte in changes:
        at = int(part * len(result))
        result[at : at + (kind != 1)] = bytes([byte] * (kind != 2))
    return bytes(result)


part = st.floats(0, 1, exclude_max=True)
kind = st.integers(0, 2)


@often
@given(
    name=st.sampled_from([*FILES, "manifest"]),
    changes=st.lists(st.tuples(part, kind, st.sampled_from(PIECES)), min_size=1, max_size=4),
)
def test_files_with_damaged_bytes(
    known: Backend, name: str, changes: list[tuple[float, int, int]], tmp_path: Path
) -> None:
    made = Made()
    made.raw[f"{name}.csv"] = damaged(made.files()[f"{name}.csv"], changes)
    survive(known, made.folder(tmp_path / "package"))


@often
@given(changes=st.lists(st.tuples(part, kind, st.integers(0, 255)), min_size=1, max_size=4))
def test_zips_with_damaged_bytes(known: Backend, changes: list[tuple[float, int, int]], tmp_path: Path) -> None:
    path = Made().only("orgs").zip(tmp_path / "package.zip")
    path.write_bytes(damaged(path.read_bytes(), changes))
    survive(known, path)


@st.composite
def swaps(draw: st.DrawFn) -> tuple[str, int, str, str]:
    """A cell of the package and what is written over it."""
    name = draw(st.sampled_from(list(FILES)))
    row = draw(st.integers(0, len(ROWS[name]) - 1))
    return name, row, draw(st.sampled_from(HEADERS[name])), draw(st.sampled_from(TEXTS) | st.text(max_size=5))


@often
@given(changes=st.lists(swaps(), min_size=1, max_size=3))
def test_cells_that_hold_something_else(
    known: Backend, changes: list[tuple[str, int, str, str]], tmp_path: Path
) -> None:
    made = Made()
    for name, row, column, text in changes:
        made.rows[name][row][column] = text.encode("utf-8", "replace").decode()
    survive(known, made.folder(tmp_path / "package"))
