"""What is shipped, what it runs on, and that what stands beside the code says the same as the code."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chalk_flask.server.server import SHUTDOWN_SECONDS
from chalk_flask.settings import SETTINGS
from tests.support.paths import ROOT

SOURCES = sorted(path for room in ("backends", "chalk_flask") for path in (ROOT / room).rglob("*.py"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = [Requirement(line) for line in PROJECT["dependencies"]]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = [line for line in text("requirements.txt").splitlines() if not line.startswith("#")]
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9.]*", line)]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def needed(names: Iterator[str]) -> set[str]:
    """The packages that these need to run, themselves included, as far as the installed ones say."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found and name != "pip":  # sqlite-utils names pip, which is there before anything is
            found.add(name)
            asked = (Requirement(line) for line in metadata.requires(name) or ())
            waiting += [each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.parametrize("dependency", DEPENDENCIES, ids=lambda dependency: dependency.name)
def test_every_dependency_is_pinned_within_its_range(dependency: Requirement, pins: dict[str, str]) -> None:
    assert dependency.specifier.contains(pins[canonicalize_name(dependency.name)])


@pytest.mark.parametrize("dependency", DEPENDENCIES, ids=lambda dependency: dependency.name)
def test_every_dependency_is_held_below_its_next_major_version(dependency: Requirement) -> None:
    assert {each.operator for each in dependency.specifier} == {">=", "<"}


def test_the_pins_are_what_the_dependencies_need_and_no_more(pins: dict[str, str]) -> None:
    assert needed(dependency.name for dependency in DEPENDENCIES) == set(pins)


def test_the_wsgi_entry_is_at_most_ten_lines() -> None:
    assert len(text("app.py").splitlines()) <= 10


def test_the_changelog_knows_the_version() -> None:
    assert f"\n## [{PROJECT['version']}]" in text("CHANGELOG.md")


@pytest.mark.parametrize("name", ["config/chalk-flask.service", "config/Caddyfile", "run", ".ci/run"])
def test_a_variable_that_is_named_outside_the_code_is_a_setting(name: str) -> None:
    known = {setting.variable for setting in SETTINGS} | {"CHALK_CONFIG"}
    assert set(re.findall(r"CHALK_[A-Z_]+\b", text(name))) <= known


def test_the_systemd_unit_waits_longer_than_requests_have_to_finish() -> None:
    stop = re.search(r"^TimeoutStopSec=(\d+)$", text("config/chalk-flask.service"), re.MULTILINE)
    assert stop
    assert int(stop[1]) > SHUTDOWN_SECONDS + 5  # waitress gives its threads 5 seconds more


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE", "app.py"):
        shutil.copy(ROOT / name, source)
    for room in ("backends", "chalk_flask", "tests", "config"):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__", "*.db*"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*command, "-w", out, source], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return next(out.glob("chalk_flask-*.whl"))


@pytest.fixture(scope="module")
def shipped(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_the_type_markers_and_the_sample_district(shipped: set[str]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in SOURCES}
    sample = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "chalk_flask" / "demo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sample
    assert modules | sample | {"backends/py.typed", "chalk_flask/py.typed"} <= shipped


def test_the_wheel_holds_nothing_else(shipped: set[str]) -> None:
    assert {name.partition("/")[0] for name in shipped} == {
        "backends",
        "chalk_flask",
        f"chalk_flask-{PROJECT['version']}.dist-info",
    }


def test_the_wheel_runs_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
    done = subprocess.run(
        [sys.executable, "-m", "chalk_flask", "--version"],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert PROJECT["version"] in done.stdout


def run_script(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of ./run alone in a folder, with the tools of a bare system and no Python but what is given."""
    shutil.copy(ROOT / "run", folder)
    tools = folder / "tools"
    tools.mkdir()
    for tool in ("sh", "cat", "cksum", "dirname", "env", "id", "rm", "sed"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    return subprocess.run(
        [tools / "sh", folder / "run", *words],
        env={"PATH": str(tools)} | environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("words", [(), ("tests",), ("--help",)])
def test_run_explains_itself_when_it_does_not_know_the_task(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run_script(tmp_path, *words)
    assert done.returncode == 2
    assert "./run demo" in done.stderr
    assert "./run test" in done.stderr


def test_run_says_which_python_it_needs_when_there_is_none(tmp_path: Path) -> None:
    done = run_script(tmp_path, "demo")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_run_does_not_take_a_python_that_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python-that-says-no"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    assert "Python 3.11 or newer is needed" in run_script(tmp_path, "demo", PYTHON=str(old)).stderr


def test_run_names_the_package_that_is_missing_where_a_virtual_environment_cannot_be_made(tmp_path: Path) -> None:
    bare = tmp_path / "python-without-ensurepip"
    bare.write_text(
        f"""#!/bin/sh
case "$*" in *ensurepip*) exit 1 ;; esac
exec {sys.executable} "$@"
"""
    )
    bare.chmod(0o755)
    done = run_script(tmp_path, "demo", PYTHON=str(bare))
    assert done.returncode == 1
    assert f"install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in done.stderr


def test_run_shows_why_packages_could_not_be_installed_without_the_address_of_an_index(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    said = "https://user:hush@index.example/simple HTTPSConnectionPool(host='index.example', port=443)"
    python.write_text(f"""#!/bin/sh
case "$*" in *install*) echo "ERROR: No matching distribution found {said}"; exit 1 ;; esac
""")
    python.chmod(0o755)
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = run_script(tmp_path, "demo")
    assert done.returncode == 1
    assert "No matching distribution found <address> HTTPSConnectionPool(host=<address>, port=443)" in done.stderr
    assert "example" not in done.stdout + done.stderr


def test_every_exception_to_a_rule_has_its_code_and_its_reason() -> None:
    bare = re.compile(
        r"#\s*(?:type:\s*ignore|noqa)(?!\[[a-z-]+(?:, ?[a-z-]+)*\]\s+\S|: [A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*\s+\S)"
    )
    files = [*SOURCES, ROOT / "app.py", *(ROOT / "tests").rglob("*.py")]
    lines = [(path, line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [f"{path.name}: {line.strip()}" for path, line in lines if bare.search(line) and "bare = " not in line]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_fits_a_head_and_a_function_a_screen(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 300
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    assert not [node.name for node in functions if node.end_lineno and node.end_lineno - node.lineno >= 40]
