"""Packages as ZIP tools, operating systems and uploads make them: what is accepted, and what the message names."""

from __future__ import annotations

import base64
import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.roster.imports import ImportOptions, ImportReport, import_package
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.storage import COLLECTIONS
from tests.support.packages import PackageBuilder

Entries = dict[str, bytes]


def import_path(path: Path) -> ImportReport:
    """Import a package into an empty store."""
    with open_store("memory:", COLLECTIONS) as store:
        return import_package(store, "default", path, ImportOptions())


def import_entries(tmp_path: Path, entries: Entries) -> ImportReport:
    """Import a ZIP with these entries. An entry whose name ends with a slash is a folder."""
    with zipfile.ZipFile(tmp_path / "package.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return import_path(tmp_path / "package.zip")


def moved_into(folder: str) -> Entries:
    """Return the files of the small package in a folder."""
    return {f"{folder}{name}": content for name, content in PackageBuilder().files().items()}


def renamed(old: str, new: str) -> Entries:
    """Return the files of the small package with another name of one of them."""
    return {new if name == old else name: content for name, content in PackageBuilder().files().items()}


ACCEPTED: dict[str, tuple[Entries, str]] = {
    "files of macOS": (
        moved_into("") | {"__MACOSX/._users.csv": b"\0\5\x16\7", ".DS_Store": b"\0\0\0\1Bud1", "__MACOSX/": b""},
        "ignored_entry",
    ),
    "files of macOS at the root": (moved_into("") | {"._users.csv": b"\0", "._orgs.csv": b"\0"}, "ignored_entry"),
    "files of Windows": (moved_into("") | {"Thumbs.db": b"", "desktop.ini": b""}, "ignored_entry"),
    "an empty folder": (moved_into("") | {"roster/": b""}, "ignored_entry"),
    "a folder without OneRoster files": (moved_into("") | {"docs/": b"", "docs/notes.txt": b"x"}, "ignored_folder"),
    "a common folder": (moved_into("export/"), "top_folder"),
    "a common folder with an entry": ({"export/": b""} | moved_into("export/"), "top_folder"),
    "a common folder in a folder": (moved_into("home/sis/"), "top_folder"),
    "a common folder with backslashes": (moved_into("export\\"), "top_folder"),
    "a common folder with both": ({"export\\": b""} | moved_into("export\\sis/"), "top_folder"),
}


@pytest.mark.reading("I-13")
@pytest.mark.parametrize("case", ACCEPTED)
def test_harmless_entries_are_accepted_with_one_warning(tmp_path: Path, case: str) -> None:
    entries, code = ACCEPTED[case]
    report = import_entries(tmp_path, entries)
    assert report.state == "committed", report.to_text()
    assert [warning.code for warning in report.problems.warnings] == [code]
    assert report.files["users"].rows == 4


def test_paths_with_a_leading_dot_are_accepted(tmp_path: Path) -> None:
    report = import_entries(tmp_path, moved_into("./"))
    assert (report.state, report.problems.warnings) == ("committed", [])


def test_files_of_macos_in_a_common_folder_are_accepted(tmp_path: Path) -> None:
    system = {"export/.DS_Store": b"", "__MACOSX/export/._users.csv": b""}
    report = import_entries(tmp_path, moved_into("export/") | system)
    assert [warning.code for warning in report.problems.warnings] == ["top_folder", "ignored_entry"]


def test_ignored_entries_do_not_count_toward_the_limit(tmp_path: Path) -> None:
    report = import_entries(tmp_path, moved_into("") | {f"__MACOSX/._{number}": b"" for number in range(100)})
    assert report.state == "committed"


IGNORED: dict[str, Entries] = {
    "many files": {f"photos/{number}.jpg": b"" for number in range(80)},
    "many folders": {f"photos/{number}/face.jpg": b"" for number in range(80)},
    "a link": {"docs/link": b"/etc/passwd"},
    "a log that compresses well": {"logs/export.log": b"ok\n" * (2 << 20)},
    "backslashes": {"docs\\notes.txt": b"x"},
}


@pytest.mark.reading("I-13")
@pytest.mark.parametrize("case", IGNORED)
def test_folder_without_oneroster_files_has_no_limits(tmp_path: Path, case: str) -> None:
    path = PackageBuilder().zip(tmp_path / "package.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in IGNORED[case].items():
            entry = zipfile.ZipInfo(name)
            if name == "docs/link":
                entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    report = import_path(path)
    assert report.state == "committed", report.to_text()
    assert [warning.code for warning in report.problems.warnings] == ["ignored_folder"]


@pytest.mark.reading("I-13")
def test_zip_with_too_many_entries_in_all_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.roster.package.archive.MAX_TOTAL_ENTRIES", 90)
    report = import_entries(tmp_path, moved_into("") | {f"photos/{number}": b"" for number in range(80)})
    assert [error.code for error in report.problems.errors] == ["too_many_files"]


@pytest.mark.reading("I-16")
def test_empty_rows_of_a_spreadsheet_are_accepted_in_a_zip(tmp_path: Path) -> None:
    package = PackageBuilder()
    users = package.files()["users.csv"]
    package.raw["users.csv"] = users + (b"," * users.partition(b"\r\n")[0].count(b",") + b"\r\n") * 200_000
    report = import_path(package.zip(tmp_path / "package.zip"))
    assert (report.state, report.files["users"].rows) == ("committed", 4), report.to_text()
    assert [warning.code for warning in report.problems.warnings] == ["empty_rows"]


@pytest.mark.reading("I-13")
def test_subfolder_of_a_folder_is_accepted_with_a_warning(tmp_path: Path) -> None:
    PackageBuilder().folder(tmp_path / "package" / "export")
    (tmp_path / "package" / "docs").mkdir()
    report = import_path(tmp_path / "package")
    assert (report.state, report.package) == ("committed", "package")
    assert [warning.code for warning in report.problems.warnings] == ["top_folder"]


MISPLACED = {
    "a copy in a subfolder": (
        ("", "old/"),
        "there are OneRoster files in the root of the folder and in the folder 'old'",
    ),
    "a copy far below": (("", "old/2025/"), "and in the folder 'old/2025'"),
    "two subfolders": (
        ("monday/", "tuesday/"),
        "there are OneRoster files in the folder 'monday' and in the folder 'tuesday'",
    ),
    "a folder in a folder": (("home/sis/",), "all OneRoster files are in the folder 'home/sis'"),
}


@pytest.mark.reading("I-13")
@pytest.mark.parametrize("case", MISPLACED)
def test_folder_with_misplaced_packages_is_rejected(tmp_path: Path, case: str) -> None:
    folders, expected = MISPLACED[case]
    for name in folders:
        PackageBuilder().folder(tmp_path / "package" / name)
    report = import_path(tmp_path / "package")
    assert [error.code for error in report.problems.errors] == ["nested_folder"], report.to_text()
    assert expected in report.to_text()


@pytest.mark.reading("I-13")
def test_other_files_in_a_folder_give_the_warnings_of_a_zip(tmp_path: Path) -> None:
    entries = moved_into("") | {"notes.pdf": b"x", ".DS_Store": b"", "docs/a.txt": b"x", "docs/b/c.txt": b"x"}
    folder = PackageBuilder().folder(tmp_path / "package")
    (folder / "empty").mkdir()
    for name, content in entries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    in_zip, in_folder = import_entries(tmp_path, entries | {"empty/": b""}), import_path(folder)
    assert (in_zip.state, in_folder.state) == ("committed", "committed"), in_folder.to_text()
    warnings = [(warning.code, warning.file) for warning in in_zip.problems.warnings]
    assert warnings == [("ignored_entry", None), ("ignored_folder", None), ("unknown_file", "notes.pdf")]
    assert [(warning.code, warning.file) for warning in in_folder.problems.warnings] == warnings


def test_folder_that_holds_only_a_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "export.zip").write_bytes(inner_zip())
    (error,) = import_path(tmp_path / "package").problems.errors
    assert (error.code, error.file) == ("not_a_package", "export.zip")
    assert (error.message, error.hint) == (
        "the folder contains a ZIP and no OneRoster file",
        "Give the path of that ZIP.",
    )


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_manifest_with_a_trailing_blank_is_quoted(tmp_path: Path, kind: str) -> None:
    package = PackageBuilder()
    entries = renamed("manifest.csv", "manifest.csv ")
    folder = package.folder(tmp_path / "package")
    (folder / "manifest.csv").rename(folder / "manifest.csv ")
    report = import_entries(tmp_path, entries) if kind == "zip" else import_path(folder)
    assert [error.hint for error in report.problems.errors] == ["Rename 'manifest.csv ' to manifest.csv."]


def test_missing_manifest_names_lenient_reading(tmp_path: Path) -> None:
    entries = moved_into("")
    del entries["manifest.csv"]
    (error,) = import_entries(tmp_path, entries).problems.errors
    assert error.hint == "Add manifest.csv, which OneRoster 1.1 requires, or use lenient reading (--lenient)."


def test_many_other_files_in_a_folder_are_accepted(tmp_path: Path) -> None:
    folder = PackageBuilder().folder(tmp_path / "package")
    for number in range(80):
        (folder / f"{number}.jpg").touch()
    (folder / "link.txt").symlink_to("/etc/passwd")
    report = import_path(folder)
    assert (report.state, {warning.code for warning in report.problems.warnings}) == ("committed", {"unknown_file"})


@pytest.mark.reading("I-13")
def test_other_files_in_a_zip_have_no_limits(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("readme")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = PackageBuilder().zip(tmp_path / "package.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/motd")
        for number in range(80):
            archive.writestr(f"{number}.jpg", b"", zipfile.ZIP_BZIP2)
    report = import_path(path)
    assert report.state == "committed", report.to_text()
    assert {warning.code for warning in report.problems.warnings} == {"unknown_file"}


def inner_zip() -> bytes:
    """Return a ZIP with the small package."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in PackageBuilder().files().items():
            archive.writestr(name, data)
    return content.getvalue()


def with_bulk_users_named(name: str) -> Entries:
    return renamed("users.csv", name)


REJECTED: dict[str, tuple[Entries, str]] = {
    "two folders": (
        moved_into("") | {"old/users.csv": b""},
        "in the root of the ZIP and in the folder",
    ),
    "a ZIP in the ZIP": ({"export.zip": inner_zip()}, "Unpack it, and import the inner ZIP."),
    "a workbook": ({"[Content_Types].xml": b"", "xl/workbook.xml": b""}, "this is an Excel workbook"),
    "a workbook of LibreOffice": (
        {"mimetype": b"", "content.xml": b"", "META-INF/manifest.xml": b""},
        "this is an OpenDocument spreadsheet",
    ),
    "a workbook of Numbers": ({"Index/Document.iwa": b"", "preview.jpg": b""}, "this is a Numbers document"),
    "an old workbook of Numbers": ({"Index.zip": b"", "preview.jpg": b""}, "this is an old Numbers document"),
    "files of School Data Sync": (
        {"School.csv": b"", "Section.csv": b"", "Student.csv": b"", "Teacher.csv": b""},
        "the files are those of School Data Sync, version 1. Export OneRoster 1.1 as CSV instead.",
    ),
    "files of Clever": (
        {"schools.csv": b"", "sections.csv": b"", "students.csv": b"", "enrollments.csv": b""},
        "the files are those of Clever. Export",
    ),
    "files of School Data Sync 2.1": (
        {"orgs.csv": b"", "users.csv": b"", "roles.csv": b""},
        "the files are those of OneRoster 1.2 or School Data Sync, version 2.1. Export",
    ),
    "a singular name": (with_bulk_users_named("user.csv"), "Rename user.csv to users.csv."),
    "a capital": (with_bulk_users_named("Users.CSV"), "Rename Users.CSV to users.csv."),
    "a copy": (with_bulk_users_named("users (1).csv"), "Rename users (1).csv to users.csv."),
    "a text file": (with_bulk_users_named("users.txt"), "Rename users.txt to users.csv."),
    "another suffix": (with_bulk_users_named("users.csv.csv"), "Rename users.csv.csv to users.csv."),
    "a date": (with_bulk_users_named("users_2026-09-01.csv"), "Rename users_2026-09-01.csv to users.csv."),
    "a sheet of Google": (with_bulk_users_named("roster - users.csv"), "Rename roster - users.csv to users.csv."),
    "a sheet of LibreOffice": (with_bulk_users_named("roster-users.csv"), "Rename roster-users.csv to users.csv."),
    "an English copy": (with_bulk_users_named("Copy of users.csv"), "Rename Copy of users.csv to users.csv."),
    "a German copy": (with_bulk_users_named("users - Kopie.csv"), "Rename users - Kopie.csv to users.csv."),
    "a name of two words": (
        renamed("lineItems.csv", "my line items.csv"),
        "Rename my line items.csv to lineItems.csv.",
    ),
    "a sheet of the manifest": (
        {f"export/roster - {name}": content for name, content in PackageBuilder().files().items()},
        "Rename roster - manifest.csv to manifest.csv.",
    ),
    "a workbook of users": (with_bulk_users_named("users.xlsx"), "Save users.xlsx as CSV UTF-8, named users.csv."),
    "an upload that is not finished": (
        with_bulk_users_named("users.csv.filepart"),
        "Wait until users.csv.filepart is written completely and called users.csv, or export it again.",
    ),
    "a packed file": (with_bulk_users_named("users.csv.gz"), "Unpack users.csv.gz to users.csv."),
    "an encrypted file": (with_bulk_users_named("users.csv.pgp"), "Decrypt users.csv.pgp to users.csv."),
    "a class": (renamed("classes.csv", "class.csv"), "Rename class.csv to classes.csv."),
    "another manifest": (renamed("manifest.csv", "Manifest.csv"), "Rename Manifest.csv to manifest.csv."),
}


@pytest.mark.parametrize("case", REJECTED)
def test_cause_of_a_wrong_zip_is_named_once(tmp_path: Path, case: str) -> None:
    entries, expected = REJECTED[case]
    report = import_entries(tmp_path, entries)
    assert (report.state, len(report.problems.to_text())) == ("refused", 1), report.to_text()
    assert expected in report.to_text()


@pytest.mark.parametrize("lenient", [False, True])
def test_misnamed_file_that_is_declared_absent_is_a_warning(tmp_path: Path, lenient: bool) -> None:
    package = PackageBuilder().only("orgs")
    package.raw["Users.csv"] = b""
    options = ImportOptions(reading=ReadingOptions(lenient=lenient))
    with open_store("memory:", COLLECTIONS) as store:
        report = import_package(store, "default", package.zip(tmp_path / "package.zip"), options)
    assert report.state == "committed"
    assert [(warning.file, warning.hint) for warning in report.problems.warnings] == [
        ("Users.csv", "Rename Users.csv to users.csv to import it.")
    ]


def with_flags(content: bytes, offset: int, value: bytes) -> bytes:
    """Return the ZIP with bytes of each record in its central directory replaced."""
    changed, position = bytearray(content), 0
    while (position := content.find(b"PK\x01\x02", position)) >= 0:
        changed[position + offset : position + offset + len(value)] = value
        position += 4
    return bytes(changed)


def tar_of(content: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("users.csv"), io.BytesIO(content))
    return archive.getvalue()


def last_part(content: bytes) -> bytes:
    """Return a ZIP whose end says that it is the second part, and whose first entry is in another part."""
    end = content.rindex(b"PK\5\6")
    record = content[end : end + 4] + struct.pack("<HH", 1, 1) + content[end + 8 :]
    return b"x" * 4 + content[4:end] + record


FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a truncated upload": (lambda content: content[:-400], "it was not transferred completely"),
    "the first bytes": (lambda content: content[:100], "it was not transferred completely"),
    "an empty upload": (lambda content: b"", "'package.zip' is empty"),
    "encryption": (lambda content: with_flags(content, 8, b"\x01\x00"), "encrypted with a password (14 entries)"),
    "Deflate64": (
        lambda content: with_flags(content, 10, b"\x09\x00"),
        "Deflate64 is not supported (14 entries)",
    ),
    "text mode to Windows": (lambda content: content.replace(b"\n", b"\r\n"), "Transfer it again in binary mode."),
    "text mode from Windows": (lambda content: content.replace(b"\r", b""), "Transfer it again in binary mode."),
    "a line break in an entry": (
        lambda content: content[:600] + b"\r" + content[600:],
        "an entry is not at the place that the directory of the ZIP names",
    ),
    "a missing start": (lambda content: content[50:], "Transfer it again in binary mode."),
    "a damaged directory": (
        lambda content: content.replace(b"PK\1\2", b"PK\r\n\1"),
        "Transfer it again in binary mode.",
    ),
    "the end alone": (lambda content: content[-200:], "the start of the ZIP file 'package.zip' is missing"),
    "a RAR archive": (lambda content: b"Rar!\x1a\x07\x01\x00" + content[:50], "is a RAR archive"),
    "a 7-Zip archive": (lambda content: b"7z\xbc\xaf\x27\x1c" + content[:50], "is a 7-Zip archive"),
    "gzip": (gzip.compress, "is a gzip file"),
    "a tar archive": (tar_of, "is a tar archive"),
    "Zstandard": (lambda content: b"\x28\xb5\x2f\xfd" + content[:50], "is a Zstandard file"),
    "a cabinet": (lambda content: b"MSCF\0\0\0\0" + content[:50], "is a cabinet file"),
    "OpenPGP": (lambda content: b"-----BEGIN PGP MESSAGE-----\n", "is an OpenPGP message, which must be decrypted"),
    "base64": (base64.encodebytes, "is base64 text, which must be decoded, not a ZIP file"),
    "much data after the end": (lambda content: content + bytes(100_000), "other data follows the end of the ZIP file"),
    "the first part": (lambda content: b"PK\x07\x08" + content[:1000], "is one part of a split ZIP file"),
    "the last part": (lambda content: last_part(content[1000:]), "is one part of a split ZIP file"),
    "the last part with the whole directory": (last_part, "this is one part of a split ZIP file"),
    "an HTML page": (lambda content: b"<html><body>Please log in</body></html>", "is an HTML page"),
    "a CSV file": (lambda content: b"sourcedId,status\n", "is a text file, not a ZIP file"),
}


@pytest.mark.parametrize("case", FILES)
def test_file_that_is_no_readable_zip_is_identified(tmp_path: Path, case: str) -> None:
    change, expected = FILES[case]
    path = tmp_path / "package.zip"
    path.write_bytes(change(inner_zip()))
    report = import_path(path)
    assert (report.state, len(report.problems.to_text())) == ("refused", 1), report.to_text()
    assert expected in report.to_text()
