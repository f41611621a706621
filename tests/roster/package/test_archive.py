"""Packages that are refused as such: what stands at PATH, the entries of a ZIP, the manifest."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from chalk_flask.cli import main
from tests.support.packages import Made
from tests.support.rejections import Filled, places

Change = Callable[[Made], object]


@pytest.fixture(scope="module", params=["json", "sqlite"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    return Filled(tmp_path_factory.mktemp("filled") / "store", request.param)


def codes(filled: Filled, path: Path, *options: str) -> set[tuple[str, str | None]]:
    """Code and file of all that is wrong."""
    return {(code, file) for code, file, *_ in places(filled.refuse(path, *options))}


NOT_ZIP = {
    "text": b"sourcedId,name\n",
    "an empty file": b"",
    "the beginning of a ZIP": b"PK\x03\x04" + bytes(100),
    "an end record alone that lies": b"PK\x05\x06" + b"\xff" * 18,
}


@pytest.mark.parametrize("content", NOT_ZIP.values(), ids=NOT_ZIP)
def test_what_is_not_a_zip_is_refused(filled: Filled, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "package.zip"
    path.write_bytes(content)
    assert codes(filled, path) == {("not_a_zip", None)}


def test_a_path_that_does_not_exist_is_refused(filled: Filled, tmp_path: Path) -> None:
    report = filled.refuse(tmp_path / "nowhere.zip")
    assert places(report) == [("not_found", None, None, None, None)]
    assert "'nowhere.zip'" in report["errors"][0]["message"]


def test_a_pipe_is_refused_and_not_waited_for(filled: Filled, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert codes(filled, tmp_path / "pipe") == {("not_a_zip", None)}


def test_a_name_that_the_system_refuses_is_a_problem_like_any_other(filled: Filled, tmp_path: Path) -> None:
    assert codes(filled, tmp_path / ("x" * 300)) == {("unreadable", None)}


def test_a_path_that_may_not_be_followed_is_refused(filled: Filled, tmp_path: Path) -> None:
    (tmp_path / "package.zip").symlink_to(tmp_path / "package.zip")  # unreadable to root too, unlike a mode of 0
    assert codes(filled, tmp_path / "package.zip") == {("unreadable", None)}


def test_an_empty_zip_is_refused(filled: Filled, tmp_path: Path) -> None:
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    assert codes(filled, tmp_path / "empty.zip") == {("empty_package", None)}


def test_an_empty_folder_is_refused(filled: Filled, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    assert codes(filled, tmp_path / "package") == {("missing_manifest", "manifest.csv")}


def test_a_zip_that_was_cut_off_is_refused(filled: Filled, tmp_path: Path) -> None:
    path = Made().zip(tmp_path / "package.zip")
    path.write_bytes(path.read_bytes()[:-40])
    assert codes(filled, path) == {("not_a_zip", None)}


NAMES = {
    "../users.csv": "bad_path",
    "a/../../users.csv": "bad_path",
    "/etc/users.csv": "bad_path",
    "..\\users.csv": "bad_path",
    "folder\\users.csv": "bad_path",
    "C:users.csv": "bad_path",
    "roster/users.csv": "nested_folder",
    "roster/": "nested_folder",
}


@pytest.mark.parametrize(("name", "code"), NAMES.items())
def test_entries_have_plain_names_at_the_root(filled: Filled, tmp_path: Path, name: str, code: str) -> None:  # I-13
    path = Made().zip(tmp_path / "package.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"")
    assert codes(filled, path) == {(code, name)}


def test_an_entry_that_is_a_link_is_refused(filled: Filled, tmp_path: Path) -> None:
    path = Made().only("orgs").zip(tmp_path / "package.zip")
    link = zipfile.ZipInfo("users.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert codes(filled, path) == {("not_a_file", "users.csv")}


def test_a_link_in_a_folder_is_refused(filled: Filled, tmp_path: Path) -> None:
    path = Made().folder(tmp_path / "package")
    (path / "users.csv").rename(tmp_path / "elsewhere.csv")
    (path / "users.csv").symlink_to(tmp_path / "elsewhere.csv")
    (path / "orgs.csv").unlink()
    (path / "orgs.csv").mkdir()
    assert codes(filled, path) == {("not_a_file", "users.csv"), ("not_a_file", "orgs.csv")}


def central(path: Path, offset: int, value: bytes) -> Path:
    """Write into the first record of a ZIP's central directory."""
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + offset
    content[at : at + len(value)] = value
    path.write_bytes(content)
    return path


def test_an_encrypted_entry_is_refused(filled: Filled, tmp_path: Path) -> None:
    path = central(Made().zip(tmp_path / "package.zip"), 8, b"\x01\x00")
    assert codes(filled, path) == {("encrypted", "manifest.csv")}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_an_entry_that_is_packed_otherwise_is_refused(filled: Filled, tmp_path: Path, method: int) -> None:
    path = central(Made().zip(tmp_path / "package.zip"), 10, struct.pack("<H", method))
    assert codes(filled, path) == {("unknown_compression", "manifest.csv")}


@pytest.mark.parametrize("name", ["manifest.csv", "users.csv"])
def test_an_entry_that_does_not_have_its_checksum_is_refused(filled: Filled, tmp_path: Path, name: str) -> None:
    path = tmp_path / "package.zip"
    content = Made().files()
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(content, key=lambda file: file != name):
            archive.writestr(file, content[file])
    report = filled.refuse(central(path, 16, b"\0\0\0\0"))
    assert {each[:2] for each in places(report)} == {("unreadable", name)}
    assert "CRC" in report["errors"][0]["message"]


def test_an_entry_whose_packed_bytes_are_damaged_is_refused(filled: Filled, tmp_path: Path) -> None:
    path = Made().zip(tmp_path / "package.zip")
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("users.csv")
    content = bytearray(path.read_bytes())
    start = entry.header_offset + 30 + len("users.csv")
    content[start : start + 20] = b"\xff" * 20
    path.write_bytes(content)
    assert codes(filled, path) == {("unreadable", "users.csv")}


def test_two_entries_of_a_name_are_refused(filled: Filled, tmp_path: Path) -> None:
    path = Made().zip(tmp_path / "package.zip")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("users.csv", b"")
    assert codes(filled, path) == {("repeated_file", "users.csv")}


def test_a_bomb_is_refused_by_its_ratio(filled: Filled, tmp_path: Path) -> None:
    made = Made()
    made.raw["users.csv"] = b"x" * (3 << 20)
    assert codes(filled, made.zip(tmp_path / "package.zip")) == {("bomb", "users.csv")}


def test_a_package_is_refused_by_its_size(filled: Filled, tmp_path: Path) -> None:
    made = Made()
    made.raw["users.csv"] = bytes(2 << 20)
    limits = ("--import-max-mb", "1", "--import-max-ratio", "100000")
    assert codes(filled, made.zip(tmp_path / "package.zip"), *limits) == {("too_large", None)}
    assert codes(filled, made.folder(tmp_path / "package"), *limits) == {("too_large", None)}


def test_a_package_is_refused_by_its_number_of_files(filled: Filled, tmp_path: Path) -> None:
    made = Made()
    made.raw = {f"{number}.csv": b"" for number in range(60)}
    assert codes(filled, made.zip(tmp_path / "package.zip")) == {("too_many_files", None)}
    assert codes(filled, made.folder(tmp_path / "package")) == {("too_many_files", None)}


def test_names_that_are_not_utf8_can_be_printed(filled: Filled, tmp_path: Path) -> None:
    path = Made().set("orgs", "org-1", type="?").folder(tmp_path / os.fsdecode(b"caf\xe9"))
    (path / os.fsdecode(b"\xe9\x1b[2J.csv")).write_bytes(b"")
    report = filled.refuse(path)
    assert report["package"] == "caf\\udce9"
    assert [w["file"] for w in report["warnings"]] == ["\\udce9\x1b[2J.csv"]
    text = CliRunner().invoke(main, ["import", str(path), "--storage", filled.url]).output
    assert "warning: \\udce9\\x1b[2J.csv: not a file" in text, "a terminal gets no control characters"


# The manifest


def test_a_package_without_a_manifest_is_refused(filled: Filled, tmp_path: Path) -> None:
    path = Made().folder(tmp_path / "package")
    (path / "manifest.csv").unlink()
    assert codes(filled, path) == {("missing_manifest", "manifest.csv")}


def mode(name: str, value: str) -> Change:
    return lambda made: made.properties.update({f"file.{name}": value})


MANIFESTS: dict[str, tuple[Change, str, int | None, str | None]] = {
    "a file that is not there": (lambda made: made.rows.pop("users"), "missing_file", 11, "bulk"),
    "a file that is there but absent": (mode("users", "absent"), "undeclared_file", 11, "absent"),
    "a file without a row": (lambda made: made.properties.pop("file.results"), "missing_property", None, None),
    "another mode": (mode("users", "Bulk"), "bad_mode", 11, "Bulk"),
    "another version": (lambda made: made.properties.update({"oneroster.version": "1.2"}), "bad_version", 3, "1.2"),
    "another version of the manifest": (
        lambda made: made.properties.update({"manifest.version": "2.0"}),
        "bad_version",
        2,
        "2.0",
    ),
    "no version": (lambda made: made.properties.pop("oneroster.version"), "bad_version", None, None),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_does_not_fit_is_refused(filled: Filled, tmp_path: Path, case: str) -> None:  # I-12, I-21
    change, code, row, value = MANIFESTS[case]
    made = Made()
    change(made)
    for path in (made.folder(tmp_path / "package"), made.zip(tmp_path / "package.zip")):
        column = None if row is None else "value"
        assert places(filled.refuse(path)) == [(code, "manifest.csv", row, column, value)]


BYTES: dict[str, tuple[bytes, str, int | None]] = {
    "nothing": (b"", "bad_header", 1),
    "another header": (b"name,value\n", "bad_header", 1),
    "another separator": (b"propertyName;value\n", "bad_header", 1),
    "a blank line first": (b"\npropertyName,value\n", "bad_header", 1),
    "a row of three": (b"propertyName,value\n\nmanifest.version,1.0,x\n", "bad_row", 3),
    "a quote that stays open": (b'propertyName,value\n"manifest', "bad_csv", None),
    "UTF-16": ("propertyName,value\n".encode("utf-16"), "bad_header", 1),
    "two words about a file": (b"propertyName,value\nfile.users,bulk\nfile.users,absent\n", "repeated_property", 3),
    "rows without end": (b"propertyName,value\n" + b"x,y\n" * 2000, "too_many_rows", None),
    "a row without end": (b"," * (17 << 20), "bad_csv", None),
}


@pytest.mark.parametrize("case", BYTES)
def test_a_manifest_that_cannot_be_read_is_refused(filled: Filled, tmp_path: Path, case: str) -> None:
    content, code, row = BYTES[case]
    made = Made()
    made.raw["manifest.csv"] = content
    assert (code, "manifest.csv", row) in {each[:3] for each in places(filled.refuse(made.folder(tmp_path / "p")))}


def test_a_package_without_a_row_is_refused(filled: Filled, tmp_path: Path) -> None:  # I-28
    made = Made()
    for rows in made.rows.values():
        rows.clear()
    assert codes(filled, made.zip(tmp_path / "package.zip")) == {("no_rows", "manifest.csv")}
