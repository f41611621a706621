import sys
from pathlib import Path

import pytest

from backends import InvalidStorageURLError, backend_class, installed_backends, open_store, store_exists
from backends.base import file_path
from backends.memory.backend import MemoryBackend
from backends.testing import COLLECTIONS


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on the import path for installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(folder: Path, points: str, module: str = "", name: str = "chalk_plugged") -> None:
    """Write a module and a dist-info folder with entry points, as an installer does."""
    (folder / f"{name}.py").write_text(module)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[chalk_flask.backends]\n{points}\n")


def test_built_in_backends_are_listed() -> None:
    assert {"json", "memory", "sqlite"} <= set(installed_backends())
    assert installed_backends()["memory"] == "backends.memory:MemoryBackend"


def test_unknown_scheme_error_lists_the_installed_backends() -> None:
    with pytest.raises(InvalidStorageURLError, match="no backend for 'redis'; installed: json, memory, postgresql"):
        open_store("redis://localhost", COLLECTIONS)
    with pytest.raises(InvalidStorageURLError, match="no backend for 'redis'"):
        store_exists("redis://localhost")


@pytest.mark.parametrize("url", ["", "chalk.db", "/var/lib/chalk.db", ":memory:", "1x:", "://"])
def test_missing_scheme_error_shows_valid_urls(url: str) -> None:
    with pytest.raises(InvalidStorageURLError, match=r"sqlite:///chalk\.db, json:///folder or memory:"):
        open_store(url, COLLECTIONS)


def test_scheme_is_case_insensitive() -> None:
    assert backend_class("Memory:") is MemoryBackend


@pytest.mark.parametrize("scheme", ["json", "sqlite"])
@pytest.mark.parametrize(
    "rest", ["", "//", "///", "relative", "/absolute", "//host/path", "///a?b", "///a#b", "///a%00b", "///a%FFb"]
)
def test_url_without_a_file_is_rejected_with_the_valid_forms(scheme: str, rest: str) -> None:
    for use in (lambda url: open_store(url, COLLECTIONS), store_exists):
        with pytest.raises(InvalidStorageURLError, match=scheme):
            use(f"{scheme}:{rest}")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///chalk.db", "chalk.db"),
        ("sqlite:///data/chalk.db", "data/chalk.db"),
        ("sqlite:////var/lib/chalk/chalk.db", "/var/lib/chalk/chalk.db"),
        ("json:///a%20b%3F%23%25", "a b?#%"),
        ("json:///%C3%BC", "ü"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(url: str, path: str) -> None:
    assert file_path(url) == Path(path)


def test_third_party_backend_is_listed_and_loaded_on_first_use(site_packages: Path) -> None:
    module = "from backends.memory.backend import MemoryBackend\nclass Plugged(MemoryBackend): pass\n"
    install(site_packages, "plugged = chalk_plugged:Plugged", module)
    assert installed_backends()["plugged"] == "chalk_plugged:Plugged"
    assert "chalk_plugged" not in sys.modules
    try:
        assert backend_class("plugged:").__name__ == "Plugged"
        with pytest.raises(InvalidStorageURLError, match="plugged"):
            backend_class("unplugged:")
    finally:
        sys.modules.pop("chalk_plugged", None)


def test_third_party_backend_cannot_replace_a_built_in_one(site_packages: Path) -> None:
    install(site_packages, "memory = chalk_plugged:Missing")
    assert backend_class("memory:") is MemoryBackend


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("no_such_module:Backend", "cannot be loaded: No module named 'no_such_module'"),
        ("chalk_broken:Missing", "cannot be loaded: .*no attribute 'Missing'"),
        ("chalk_broken:NUMBER", r"is not a backends\.Backend"),
        ("chalk_broken:Other", r"is not a backends\.Backend"),
    ],
)
def test_invalid_third_party_backend_is_named_in_the_error(site_packages: Path, point: str, message: str) -> None:
    install(site_packages, f"broken = {point}", "NUMBER = 1\nclass Other: pass\n", "chalk_broken")
    try:
        with pytest.raises(InvalidStorageURLError, match=f"the backend for 'broken' .{point}. {message}"):
            open_store("broken:", COLLECTIONS)
    finally:
        sys.modules.pop("chalk_broken", None)
