import sys
from pathlib import Path

import pytest

from backends import InvalidStorageURLError, backend_class, installed_backends, open_store, store_exists
from backends.base import file_path
from backends.memory.backend import MemoryBackend
from backends.testing import COLLECTIONS


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages; what its entry points name can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(folder: Path, points: str, module: str = "", name: str = "chalk_plugged") -> None:
    """What an installer leaves behind: a module, and a dist-info folder with its entry points."""
    (folder / f"{name}.py").write_text(module)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[chalk_flask.backends]\n{points}\n")


def test_the_built_in_backends_are_listed() -> None:
    assert {"json", "memory", "sqlite"} <= set(installed_backends())
    assert installed_backends()["memory"] == "backends.memory.backend:MemoryBackend"


def test_an_unknown_scheme_is_told_what_is_installed() -> None:
    with pytest.raises(InvalidStorageURLError, match=r"no backend for 'redis'; installed: json, memory, sqlite"):
        open_store("redis://localhost", COLLECTIONS)
    with pytest.raises(InvalidStorageURLError, match="no backend for 'redis'"):
        store_exists("redis://localhost")


@pytest.mark.parametrize("url", ["", "chalk.db", "/var/lib/chalk.db", ":memory:", "1x:", "://"])
def test_what_has_no_scheme_is_told_what_a_url_looks_like(url: str) -> None:
    with pytest.raises(InvalidStorageURLError, match=r"sqlite:///chalk\.db, json:///folder or memory:"):
        open_store(url, COLLECTIONS)


def test_the_case_of_a_scheme_does_not_matter() -> None:
    assert backend_class("Memory:") is MemoryBackend


@pytest.mark.parametrize("scheme", ["json", "sqlite"])
@pytest.mark.parametrize(
    "rest", ["", "//", "///", "relative", "/absolute", "//host/path", "///a?b", "///a#b", "///a%00b", "///a%FFb"]
)
def test_a_url_that_names_no_file_is_refused_with_the_forms_that_do(scheme: str, rest: str) -> None:
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


def test_a_plugged_in_backend_is_listed_and_loaded_on_first_use(plug_in: Path) -> None:
    module = "from backends.memory.backend import MemoryBackend\nclass Plugged(MemoryBackend): pass\n"
    install(plug_in, "plugged = chalk_plugged:Plugged", module)
    assert installed_backends()["plugged"] == "chalk_plugged:Plugged"
    assert "chalk_plugged" not in sys.modules
    try:
        assert backend_class("plugged:").__name__ == "Plugged"
        with pytest.raises(InvalidStorageURLError, match="plugged"):
            backend_class("unplugged:")
    finally:
        sys.modules.pop("chalk_plugged", None)


def test_a_plug_in_cannot_take_the_place_of_a_built_in_backend(plug_in: Path) -> None:
    install(plug_in, "memory = chalk_plugged:Missing")
    assert backend_class("memory:") is MemoryBackend


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ("no_such_module:Backend", "cannot be loaded: No module named 'no_such_module'"),
        ("chalk_broken:Missing", "cannot be loaded: .*no attribute 'Missing'"),
        ("chalk_broken:NUMBER", r"is not a backends\.Backend"),
        ("chalk_broken:Other", r"is not a backends\.Backend"),
    ],
)
def test_a_plug_in_that_does_not_fit_is_named_in_the_error(plug_in: Path, point: str, says: str) -> None:
    install(plug_in, f"broken = {point}", "NUMBER = 1\nclass Other: pass\n", "chalk_broken")
    try:
        with pytest.raises(InvalidStorageURLError, match=f"the backend for 'broken' .{point}. {says}"):
            open_store("broken:", COLLECTIONS)
    finally:
        sys.modules.pop("chalk_broken", None)
