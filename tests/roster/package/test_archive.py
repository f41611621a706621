"""Rejection of a package because of its path, its ZIP entries, or a limit."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from chalk_flask.cli import main
from chalk_flask.roster.imports import ImportOptions
from chalk_flask.roster.package import ArchiveLimits
from tests.roster.package.rejections import FilledDiskStore, FilledStore, codes_by_file, problem_places
from tests.support.packages import PackageBuilder


@pytest.mark.parametrize("backend_on_disk", ["json", "sqlite"])
def test_rejection_leaves_store_on_disk_unchanged(backend_on_disk: str, tmp_path: Path) -> None:
    filled = FilledDiskStore(tmp_path / "filled", backend_on_disk)
    assert codes_by_file(filled.reject(tmp_path / "missing.zip")) == {("not_found", None)}
    package = PackageBuilder()
    package.raw["users.csv"] = bytes(2 << 20)
    limits = ("--import-max-mb", "1", "--import-max-ratio", "100000")
    assert codes_by_file(filled.reject(package.zip(tmp_path / "large.zip"), *limits)) == {("too_large", None)}
    package = PackageBuilder()
    package.properties["file.users"] = "Bulk"
    assert codes_by_file(filled.reject(package.zip(tmp_path / "mode.zip"))) == {("bad_mode", "manifest.csv")}
    package = PackageBuilder().set("results", "result-1", score="ten")
    assert codes_by_file(filled.reject(package.folder(tmp_path / "cell"))) == {("bad_value", "results.csv")}


NOT_A_ZIP = {
    "text": b"sourcedId,name\n",
    "an empty file": b"",
    "an end record with invalid counts": b"PK\x05\x06" + b"\xff" * 18,
}


@pytest.mark.parametrize("content", NOT_A_ZIP.values(), ids=NOT_A_ZIP)
def test_file_that_is_not_a_zip_is_rejected(filled: FilledStore, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "package.zip"
    path.write_bytes(content)
    assert codes_by_file(filled.reject(path)) == {("not_a_zip", None)}


def test_missing_path_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    report = filled.reject(tmp_path / "missing.zip")
    assert problem_places(report) == [("not_found", None, None, None, None)]
    assert "'missing.zip'" in report["errors"][0]["message"]


def test_named_pipe_is_rejected_without_reading_it(filled: FilledStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert codes_by_file(filled.reject(tmp_path / "pipe")) == {("not_a_zip", None)}


def test_path_that_is_too_long_is_unreadable(filled: FilledStore, tmp_path: Path) -> None:
    assert codes_by_file(filled.reject(tmp_path / ("x" * 300))) == {("unreadable", None)}


def test_path_that_is_a_link_to_itself_is_unreadable(filled: FilledStore, tmp_path: Path) -> None:
    (tmp_path / "package.zip").symlink_to(tmp_path / "package.zip")  # unreadable for root too, unlike a mode of 0
    assert codes_by_file(filled.reject(tmp_path / "package.zip")) == {("unreadable", None)}


def test_empty_zip_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    assert codes_by_file(filled.reject(tmp_path / "empty.zip")) == {("empty_package", None)}


def test_empty_folder_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    assert codes_by_file(filled.reject(tmp_path / "package")) == {("missing_manifest", "manifest.csv")}


def test_truncated_zip_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    path = PackageBuilder().zip(tmp_path / "package.zip")
    path.write_bytes(path.read_bytes()[:-40])
    assert codes_by_file(filled.reject(path)) == {("truncated", None)}


ENTRY_NAMES = {
    "../users.csv": "bad_path",
    "a/../../users.csv": "bad_path",
    "/etc/users.csv": "bad_path",
    "..\\users.csv": "bad_path",
    "folder\\..\\..\\users.csv": "bad_path",
    "\\users.csv": "bad_path",
    "C:users.csv": "bad_path",
    "roster/users.csv": "nested_folder",
}


@pytest.mark.reading("I-13")
@pytest.mark.parametrize(("name", "code"), ENTRY_NAMES.items())
def test_entry_without_plain_name_is_rejected(filled: FilledStore, tmp_path: Path, name: str, code: str) -> None:
    path = PackageBuilder().zip(tmp_path / "package.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"")
    assert codes_by_file(filled.reject(path)) == {(code, name)}


@pytest.mark.reading("I-13")
def test_link_in_zip_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    path = PackageBuilder().only("orgs").zip(tmp_path / "package.zip")
    link = zipfile.ZipInfo("users.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert codes_by_file(filled.reject(path)) == {("not_a_file", "users.csv")}


@pytest.mark.reading("I-13")
def test_link_and_folder_in_folder_are_rejected(filled: FilledStore, tmp_path: Path) -> None:
    path = PackageBuilder().folder(tmp_path / "package")
    (path / "users.csv").rename(tmp_path / "elsewhere.csv")
    (path / "users.csv").symlink_to(tmp_path / "elsewhere.csv")
    (path / "orgs.csv").unlink()
    (path / "orgs.csv").mkdir()
    assert codes_by_file(filled.reject(path)) == {("not_a_file", "users.csv"), ("not_a_file", "orgs.csv")}


def overwrite_directory_record(path: Path, offset: int, value: bytes) -> Path:
    """Overwrite bytes of the first record in the central directory of a ZIP."""
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02") + offset
    content[start : start + len(value)] = value
    path.write_bytes(content)
    return path


@pytest.mark.reading("I-13")
def test_encrypted_entry_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    path = overwrite_directory_record(PackageBuilder().zip(tmp_path / "package.zip"), 8, b"\x01\x00")
    assert codes_by_file(filled.reject(path)) == {("encrypted", "manifest.csv")}


@pytest.mark.reading("I-13")
@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, 99])
def test_other_compression_is_rejected(filled: FilledStore, tmp_path: Path, method: int) -> None:
    path = PackageBuilder().zip(tmp_path / "package.zip")
    overwrite_directory_record(path, 10, struct.pack("<H", method))
    assert codes_by_file(filled.reject(path)) == {("unknown_compression", "manifest.csv")}


@pytest.mark.parametrize("name", ["manifest.csv", "users.csv"])
def test_entry_with_wrong_crc_is_rejected(filled: FilledStore, tmp_path: Path, name: str) -> None:
    path = tmp_path / "package.zip"
    content = PackageBuilder().files()
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(content, key=lambda file: file != name):
            archive.writestr(file, content[file])
    report = filled.reject(overwrite_directory_record(path, 16, b"\0\0\0\0"))
    assert codes_by_file(report) == {("unreadable", name)}
    assert "it was damaged, as by a transfer that is not binary (Bad CRC" in report["errors"][0]["message"]


def test_entry_with_damaged_bytes_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    path = PackageBuilder().zip(tmp_path / "package.zip")
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("users.csv")
    content = bytearray(path.read_bytes())
    start = entry.header_offset + 30 + len("users.csv")
    content[start : start + 20] = b"\xff" * 20
    path.write_bytes(content)
    report = filled.reject(path)
    assert codes_by_file(report) == {("unreadable", "users.csv")}
    assert "it was damaged, as by a transfer" in report["errors"][0]["message"]


def test_repeated_entry_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    path = PackageBuilder().zip(tmp_path / "package.zip")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("users.csv", b"")
    assert codes_by_file(filled.reject(path)) == {("repeated_file", "users.csv")}


@pytest.mark.reading("I-13")
def test_entry_above_compression_ratio_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    path = PackageBuilder().zip(tmp_path / "package.zip")
    report = filled.reject(overwrite_directory_record(path, 24, struct.pack("<I", 65 << 20)))
    assert codes_by_file(report) == {("bomb", "manifest.csv")}
    assert "Delete empty rows" in report["errors"][0]["remedy"]


@pytest.mark.reading("I-13")
def test_package_above_size_limit_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder()
    package.raw["users.csv"] = bytes(2 << 20)
    options = ImportOptions(limits=ArchiveLimits(size=1 << 20, ratio=100_000))
    for path in (package.zip(tmp_path / "package.zip"), package.folder(tmp_path / "package")):
        assert codes_by_file(filled.reject(path, options)) == {("too_large", None)}


@pytest.mark.reading("I-13")
def test_package_above_file_limit_is_rejected(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder()
    package.raw = {f"{number}.csv": b"" for number in range(60)}
    for path in (package.zip(tmp_path / "package.zip"), package.folder(tmp_path / "package")):
        assert codes_by_file(filled.reject(path)) == {("too_many_files", None)}


def test_names_that_are_not_utf8_are_escaped(filled: FilledStore, tmp_path: Path) -> None:
    path = PackageBuilder().set("orgs", "org-1", type="?").folder(tmp_path / os.fsdecode(b"caf\xe9"))
    (path / os.fsdecode(b"\xe9\x1b[2J.csv")).write_bytes(b"")
    report = filled.reject(path)
    assert report["package"] == "caf\\udce9"
    assert [warning["file"] for warning in report["warnings"]] == ["\\udce9\x1b[2J.csv"]
    renamed = path.rename(tmp_path / "package")  # an argument must be UTF-8
    text = CliRunner().invoke(main, ["import", str(renamed), "--storage", "memory:", "--data", str(tmp_path)]).output
    assert "warning: \\udce9\\x1b[2J.csv: not a file" in text, "a terminal must get no control characters"
