"""Size of a store on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.console.pages.dashboard.store_size import store_size
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in
from tests.support.small_roster import fill


@pytest.mark.parametrize("kind", ["sqlite", "json"])
def test_size_grows_with_the_store(tmp_path: Path, kind: str) -> None:
    url = url_in(tmp_path, kind)
    with open_store(url, COLLECTIONS) as store:
        fill(store)
        small = store_size(url)
        fill(store, "west")
        large = store_size(url)
    assert small is not None
    assert large is not None
    assert 0 < small.used <= large.used
    assert large.free > 0


def test_other_stores_have_no_size(tmp_path: Path) -> None:
    assert store_size("memory:") is None
    assert store_size("odd://me:secret@host/a") is None
    missing = store_size(f"sqlite:///{tmp_path}/missing.db")
    assert missing is not None
    assert missing.used == 0
