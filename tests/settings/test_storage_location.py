"""Plain paths as storage URLs, and the location of a store in messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.settings import load_settings
from chalk_flask.settings.storage_location import slashes_hint, storage_location, storage_url
from chalk_flask.storage import COLLECTIONS


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("district.db", "sqlite:///district.db"),
        ("./a b/100%.db", "sqlite:///./a%20b/100%25.db"),
        ("/srv/chalk.db", "sqlite:////srv/chalk.db"),
        ("what?#.db", "sqlite:///what%3F%23.db"),
        ("sqlite:///chalk.db", "sqlite:///chalk.db"),
        ("memory:", "memory:"),
        ("", ""),
    ],
)
def test_plain_path_is_a_sqlite_file(text: str, url: str) -> None:
    assert storage_url(text) == url


def test_plain_path_of_a_json_store_is_one(tmp_path: Path) -> None:
    open_store(f"json:///{tmp_path}/roster", COLLECTIONS).close()
    assert load_settings({"storage": f"{tmp_path}/roster"}, {}).storage == f"json:///{tmp_path}/roster"


def test_location_is_an_absolute_path_or_a_url_without_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage_location("sqlite:///a%20b.db") == f"{tmp_path}/a b.db"
    assert storage_location("json:////srv/roster") == "/srv/roster"
    assert storage_location("sqlite:///../b.db") == f"{tmp_path.parent}/b.db"
    assert storage_location("memory:") == "memory:"
    assert storage_location("db://user:hush@host/x") == "db://user:***@host/x"


def test_hint_names_the_slashes_of_a_path_that_was_meant_to_be_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "sqlite://// an absolute one" in slashes_hint("sqlite:///tmp/x.db")
    assert slashes_hint("sqlite:////tmp/x.db") == slashes_hint("sqlite:///typo.db") == slashes_hint("memory:") == ""
