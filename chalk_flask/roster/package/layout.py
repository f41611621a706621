"""Layout of a package: its files, the folder that holds them, and entries that are left out.

docs/conformance, I-13, states the rules.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import zipfile
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

from chalk_flask.files import open_without_links
from chalk_flask.oneroster.csv.file_names import KNOWN_FILE_NAMES
from chalk_flask.roster.package.problems import ImportProblem

__all__ = ["APPLE_DOUBLE_PREFIX", "PackageLayout", "entry_path", "find_subfolder"]

SYSTEM_FOLDER = "__MACOSX"
SYSTEM_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
"""Files that operating systems add to folders, in lower case."""
APPLE_DOUBLE_PREFIX = "._"
ZIP_SUFFIX = ".zip"
DOCUMENTS: Mapping[str, Set[str]] = {
    "an Excel workbook or another Office document": {"[Content_Types].xml"},
    "an OpenDocument spreadsheet or another document of LibreOffice": {"mimetype", "content.xml"},
    "a Numbers document": {"Index/Document.iwa"},
    "an old Numbers document": {"Index.zip"},
}
"""Files by which a document of a spreadsheet program is known."""

_LOWER_CASE_NAMES = frozenset(map(str.lower, KNOWN_FILE_NAMES))


class PackageLayout:
    """Layout of the paths in a ZIP or a folder. The path of a folder ends with a slash.

    `folder` is the folder with the OneRoster files. If it is not given, it is found. `files` holds the paths in it, by
    name without folder. Entries that operating systems add are left out.
    """

    def __init__(self, paths: Sequence[str], container: str, folder: str | None = None) -> None:
        self._container = container
        self._ignored = [path for path in paths if _is_ignored(path)]
        self._paths = dict.fromkeys(path for path in paths if not _is_ignored(path))
        folders = (posixpath.dirname(path) for path in self._paths if _is_roster_file(path))
        self._roster_folders = sorted(set(folders))
        found = self._roster_folders[0] if self._roster_folders else self._common_folder()
        self._folder = found if folder is None else folder
        self.files = {posixpath.basename(path): path for path in self._paths if posixpath.dirname(path) == self._folder}
        self.misplaced = {path for path in self._paths.keys() - self.files.values() if _is_roster_file(path)}
        """OneRoster files of other folders."""

    def _common_folder(self) -> str:
        """Return the folder of all files, whose names may be misspelled; the root if they are in several."""
        folders = {posixpath.dirname(path) for path in self._paths}
        return folders.pop() if len(folders) == 1 else ""

    def use_standard_case(self, names: Sequence[str]) -> list[str]:
        """Give these names to files whose names differ in letter case. Return their former names.

        If two files have a name in different letter case, both keep it.
        """
        found = {name: [file for file in self.files if file.lower() == name.lower()] for name in names}
        former = {name: files[0] for name, files in found.items() if len(files) == 1 and files != [name]}
        for name, file in former.items():
            self.files[name] = self.files.pop(file)
        return list(former.values())

    def errors(self) -> Iterator[ImportProblem]:
        """Yield an error for each further folder with OneRoster files, or the reason why there is none at all."""
        for folder in self._roster_folders[1:]:
            first = next(path for path in self._paths if posixpath.dirname(path) == folder and _is_roster_file(path))
            message = (
                f"there are OneRoster files in {self._label(self._roster_folders[0])} and in {self._label(folder)}"
            )
            yield ImportProblem("nested_folder", message, "Put all files into one folder.", first)
        if len(self._roster_folders) == 1 and self._roster_folders != [self._folder]:
            message = f"all OneRoster files are in {self._label(self._roster_folders[0])}"
            yield ImportProblem("nested_folder", message, "Give the path of that folder.")
        if self._roster_folders:
            return
        if document := self._document():
            message = f"this is {document}, not a ZIP of CSV files"
            yield ImportProblem("not_a_package", message, "Save each sheet as CSV UTF-8.")
        elif inner := next((path for path in self._paths if path.lower().endswith(ZIP_SUFFIX)), None):
            message = f"the {self._container} contains a ZIP and no OneRoster file"
            hint = "Unpack it, and import the inner ZIP." if self._container == "ZIP" else "Give the path of that ZIP."
            yield ImportProblem("not_a_package", message, hint, inner)

    def _document(self) -> str | None:
        """Return what document of a spreadsheet program the files are; None if they are none."""
        return next((document for document, parts in DOCUMENTS.items() if self._paths.keys() >= parts), None)

    def warnings(self) -> Iterator[ImportProblem]:
        """Yield one warning for a common folder, one for all ignored entries, and one per outermost other folder."""
        if self._folder and self._roster_folders:
            message = f"all OneRoster files are in {self._label(self._folder)}"
            yield _warning("top_folder", message, "They were read. Put them at the root of the ZIP.")
        used_folders = {folder for path in self._paths for folder in _parents(path)}
        ignored = [path for path in self._ignored if path.rstrip("/") not in used_folders]
        if ignored:
            others = f" and {len(ignored) - 1} more" if len(ignored) > 1 else ""
            message = (
                f"the {self._container} has entries of an operating system or empty folders: {ignored[0]!r}{others}"
            )
            yield _warning("ignored_entry", message, "They were ignored.")
        outside = {posixpath.dirname(path) for path in self._paths}.difference([self._folder])
        for folder in sorted({self._outer_folder(folder) for folder in outside}):
            yield _warning("ignored_folder", f"{self._label(folder)} has no OneRoster file", "It was ignored.")

    def _outer_folder(self, folder: str) -> str:
        """Return the outermost folder above a folder, or itself, that does not contain the OneRoster files."""
        above = _parents(f"{folder}/").difference(_parents(f"{self._folder}/"))
        return min(above, key=len, default=folder)

    def _label(self, folder: str) -> str:
        return f"the folder {folder!r}" if folder else f"the root of the {self._container}"


def find_subfolder(path: Path) -> str:
    """Return the name of the only subfolder with OneRoster files of a folder that has none itself; else "".

    Links are not followed: the folder may be one that another user can write to.
    """
    with contextlib.suppress(OSError), _open_folder(path) as folder:  # opening it again reports the reason
        if _has_roster_file(folder):
            return ""
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        with_files = []
        for name in names:
            with _open_folder(name, folder) as subfolder:
                if name != SYSTEM_FOLDER and _has_roster_file(subfolder):
                    with_files.append(name)
        return with_files[0] if len(with_files) == 1 else ""
    return ""


def entry_path(entry: zipfile.ZipInfo) -> str:
    """Return the path of an entry without leading `./`, and with slashes instead of backslashes."""
    path = entry.filename.replace("\\", "/")
    is_file_below_dot = path.startswith("./") and not path.endswith("/")
    return posixpath.normpath(path) if is_file_below_dot else path.removeprefix("./")


@contextlib.contextmanager
def _open_folder(path: Path | str, parent: int | None = None) -> Iterator[int]:
    descriptor = open_without_links(path, parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _has_roster_file(folder: int) -> bool:
    return not KNOWN_FILE_NAMES.isdisjoint(os.listdir(folder))


def _is_roster_file(path: str) -> bool:
    return posixpath.basename(path).lower() in _LOWER_CASE_NAMES


def _is_ignored(path: str) -> bool:
    """Return True for a folder, and for an entry that an operating system adds."""
    *folders, name = path.split("/")
    is_system_file = name.lower() in SYSTEM_FILES or name.startswith(APPLE_DOUBLE_PREFIX)
    return not name or is_system_file or SYSTEM_FOLDER in folders


def _parents(path: str) -> set[str]:
    """Return the folders above a path."""
    parts = path.split("/")[:-1]
    return {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}


def _warning(code: str, message: str, hint: str) -> ImportProblem:
    return ImportProblem(code, message, hint, is_warning=True)
