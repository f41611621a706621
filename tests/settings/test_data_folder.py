"""Default place of the folder `data`, and the names in it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from chalk_flask.settings import load_settings
from chalk_flask.settings.data_folder import STORE_ID_FILE, StoreIdFile, default_data_folder, store_key


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory of the test, which is empty."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("storage", "name"),
    [
        ("sqlite:///chalk.db", "chalk-data"),
        ("sqlite:///a%20b.db", "a b-data"),
        ("sqlite:///../district", "../district-data"),
        ("json:///roster.v2", "roster.v2-data"),
        ("memory:", "memory-data"),
        ("odd://host/store", "chalk-data"),
        ("json:////", "chalk-data"),
    ],
)
def test_default_folder_is_beside_the_store(storage: str, name: str, folder: Path) -> None:
    assert default_data_folder(storage) == folder / name
    assert list(folder.iterdir()) == []


def test_default_folder_does_not_depend_on_the_working_directory(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "current.db").symlink_to(tmp_path / "real" / "district.db")
    assert default_data_folder("sqlite:///current.db") == tmp_path / "real" / "district-data"
    monkeypatch.chdir("/")
    assert load_settings({"storage": f"{folder}/a.db"}, {}).data == f"{folder}/a-data"


def test_given_folder_becomes_absolute(folder: Path) -> None:
    assert load_settings({"data": "elsewhere"}, {}).data == f"{folder}/elsewhere"


@pytest.mark.parametrize("former", ["chalk-data", "../data"])
def test_folder_of_an_earlier_version_is_used_with_a_hint(
    former: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = "sqlite:///../district.db"
    (folder / former / "imports" / store_key(storage, folder)).mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert Path(load_settings({"storage": storage}, {}).data).samefile(folder / former)
    assert "--data (CHALK_DATA)" in caplog.text
    (folder / "../district-data").mkdir()
    assert default_data_folder(storage) == folder / "../district-data"


def test_folder_of_an_earlier_version_with_keys_alone_is_used(folder: Path) -> None:
    (folder / "chalk-data").mkdir()
    (folder / "chalk-data" / "secrets.key").touch()
    assert default_data_folder("sqlite:///a.db") == folder / "a-data", "a new store has no keys yet"
    (folder / "a.db").touch()
    assert default_data_folder("sqlite:///a.db") == folder / "chalk-data"
    (folder / "chalk.db").touch()
    assert default_data_folder("sqlite:///a.db") == folder / "a-data", "the keys are those of chalk.db"


def test_folder_of_an_earlier_version_of_another_store_is_not_used(folder: Path) -> None:
    (folder / "a.db").touch()
    (folder / "chalk-data" / "imports" / "0123").mkdir(parents=True)
    (folder / "chalk-data" / "secrets.key").touch()
    assert default_data_folder("sqlite:///a.db") == folder / "a-data"


def test_key_stays_when_store_and_folder_are_moved(folder: Path) -> None:
    content = StoreIdFile("1a2b", "/former/a.db", "0123")
    (folder / STORE_ID_FILE).write_bytes(content.encode())
    assert StoreIdFile.read(folder) == content
    assert store_key("sqlite:///a.db", folder) == "0123"


@pytest.mark.parametrize(
    "content", ["", "[]", '{"store_id":"a","location":"b","key":"../c"}'], ids=["empty", "list", "path"]
)
def test_damaged_store_id_is_an_error_with_a_remedy(content: str, folder: Path) -> None:
    (folder / STORE_ID_FILE).write_text(content)
    with pytest.raises(OSError, match="it names no store: delete it if this is the folder data of your store"):
        StoreIdFile.read(folder)
