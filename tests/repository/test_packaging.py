"""Packaging: dependencies and their pins, the wheel, `./run`, and files that repeat facts of the code."""

from __future__ import annotations

import json
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
from packaging.version import Version

from chalk_flask.server.server import SHUTDOWN_SECONDS
from chalk_flask.settings import SETTINGS
from tests.support.paths import ROOT

SOURCES = sorted(path for name in ("backends", "chalk_flask") for path in (ROOT / name).rglob("*.py"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = [Requirement(line) for line in PROJECT["dependencies"]]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PROXY_EXAMPLES = ("config/chalk-flask.service", "config/Caddyfile", "config/nginx.conf")

PIN = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[0-9][0-9.]*)(?P<marker> ; [^\\\n]*[^\\\s])?"
    r"(?P<hashes>( \\\n    --hash=\S+)*)"
)


@pytest.fixture(scope="module")
def pinned() -> list[re.Match[str]]:
    content = "".join(line for line in text("requirements.txt").splitlines(keepends=True) if not line.startswith("#"))
    assert PIN.sub("", content).strip() == ""
    return list(PIN.finditer(content))


@pytest.fixture(scope="module")
def pins(pinned: list[re.Match[str]]) -> dict[str, str]:
    return {canonicalize_name(pin["name"]): pin["version"] for pin in pinned}


def test_every_pin_has_hashes_and_holds_on_every_python(pinned: list[re.Match[str]]) -> None:
    for pin in pinned:
        hashes = re.findall(r"--hash=(\S+)", pin["hashes"])
        assert hashes, pin["name"]
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes)
        assert "python_" not in (pin["marker"] or "").replace("platform_python_implementation", "")
    # One wheel per Python from 3.11 to 3.14 and platform: far more than the files of one of them.
    assert all(pin["hashes"].count("--hash") > 30 for pin in pinned if pin["name"] in ("orjson", "msgspec"))


@pytest.mark.parametrize("script", ["run", ".ci/run"])
def test_scripts_install_pins_with_hashes(script: str) -> None:
    lines = [line for line in text(script).splitlines() if "pip" in line and "requirements.txt" in line]
    assert any("--require-hashes -r requirements.txt" in line for line in lines)
    assert not [line for line in lines if "-c requirements.txt" in line], "pip rejects hashes in constraints"


def transitive_requirements(names: Iterator[str]) -> set[str]:
    """Return these packages and everything that they require, according to the installed metadata."""
    required: set[str] = set()
    pending = list(names)
    while pending:
        name = canonicalize_name(pending.pop())
        if name not in required and name != "pip":  # sqlite-utils requires pip, which every environment has
            required.add(name)
            requirements = (Requirement(line) for line in metadata.requires(name) or ())
            pending += [
                requirement.name
                for requirement in requirements
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            ]
    return required


def test_dependencies_have_a_range_below_the_next_major_version() -> None:
    for dependency in DEPENDENCIES:
        assert {specifier.operator for specifier in dependency.specifier} == {">=", "<"}, dependency


def test_pins_are_within_the_ranges_of_the_dependencies(pins: dict[str, str]) -> None:
    for dependency in DEPENDENCIES:
        assert dependency.specifier.contains(pins[canonicalize_name(dependency.name)]), dependency


def test_pins_are_exactly_the_transitive_requirements(pins: dict[str, str]) -> None:
    assert transitive_requirements(dependency.name for dependency in DEPENDENCIES) == set(pins)


def test_npm_packages_of_the_tests_have_versions_and_hashes() -> None:
    wanted = json.loads(text("tests/npm/package.json"))["devDependencies"]
    locked = json.loads(text("tests/npm/package-lock.json"))["packages"]
    assert locked.pop("")["devDependencies"] == wanted
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    assert [name for name, package in locked.items() if not package["integrity"].startswith("sha512-")] == []
    assert "npm ci " in text("run")
    assert "npm install" not in text("run")


def test_wsgi_entry_has_at_most_ten_lines() -> None:
    assert len(text("app.py").splitlines()) <= 10


def test_changelog_dates_releases_and_has_the_version() -> None:
    headings = re.findall(r"^## (.+)$", text("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    releases = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}", heading) for heading in headings[1:]]
    versions = [Version(release[1]) for release in releases if release]
    assert len(versions) == len(headings) - 1
    assert versions == sorted(versions, reverse=True)
    version = Version(PROJECT["version"])
    assert version == versions[0] or (version.is_devrelease and version > versions[0])


def test_version_is_written_in_one_place() -> None:
    files = [*SOURCES, ROOT / "docs" / "conf.py", *(ROOT / "config").iterdir()]
    assert [path for path in files if PROJECT["version"] in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize(
    "name", ["config/chalk-flask.service", "config/Caddyfile", "config/nginx.conf", "run", ".ci/run"]
)
def test_environment_variables_outside_the_code_are_settings(name: str) -> None:
    variables = {setting.variable for setting in SETTINGS} | {"CHALK_CONFIG"}
    assert set(re.findall(r"CHALK_[A-Z_]+\b", text(name))) <= variables


@pytest.mark.parametrize("name", PROXY_EXAMPLES)
def test_examples_of_a_proxy_make_the_service_trust_it(name: str) -> None:
    assert "CHALK_TRUSTED_PROXY=127.0.0.1" in text(name)
    assert "CHALK_PUBLIC_URL=https://roster.example.org" in text(name)


def test_nginx_example_replaces_what_a_client_may_forge() -> None:
    sent = dict(re.findall(r"^\s*proxy_set_header (X-Forwarded-\w+) (\S+);", text("config/nginx.conf"), re.MULTILINE))
    assert sent == {
        "X-Forwarded-For": "$remote_addr",
        "X-Forwarded-Proto": "$scheme",
        "X-Forwarded-Host": "$host",
        "X-Forwarded-Port": "$server_port",
    }
    how_to = text("docs/how-to/reverse-proxy.md")
    assert all(f"proxy_set_header {name} {value};" in how_to for name, value in sent.items())


def test_systemd_unit_waits_for_requests_to_finish() -> None:
    stop = re.search(r"^TimeoutStopSec=(\d+)$", text("config/chalk-flask.service"), re.MULTILINE)
    assert stop
    assert int(stop[1]) > SHUTDOWN_SECONDS + 5  # waitress gives its threads 5 seconds more


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE", "app.py"):
        shutil.copy(ROOT / name, source)
    for name in ("backends", "chalk_flask"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.db*"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    completed = subprocess.run([*command, "-w", out, source], capture_output=True, text=True, timeout=300)
    assert completed.returncode == 0, completed.stderr
    return next(out.glob("chalk_flask-*.whl"))


@pytest.fixture(scope="module")
def wheel_files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_wheel_contains_modules_markers_sample_and_console_files(wheel_files: set[str]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in SOURCES}
    files = {
        path.relative_to(ROOT).as_posix()
        for folder in ("demo", "console/templates", "console/static", "openapi/templates", "openapi/static")
        for path in (ROOT / "chalk_flask" / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name.partition(".")[2] for name in files} >= {"csv", "html", "css", "js"}
    assert modules | files | {"backends/py.typed", "chalk_flask/py.typed"} <= wheel_files


@pytest.mark.slow
def test_wheel_contains_no_other_package(wheel_files: set[str]) -> None:
    assert {name.partition("/")[0] for name in wheel_files} == {
        "backends",
        "chalk_flask",
        f"chalk_flask-{PROJECT['version']}.dist-info",
    }


@pytest.mark.slow
def test_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
    completed = subprocess.run(
        [sys.executable, "-m", "chalk_flask", "--version"],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (completed.returncode, completed.stderr) == (0, "")
    assert PROJECT["version"] in completed.stdout


def run_script(folder: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of ./run in a folder with few system tools and without Python, unless PYTHON is in `environ`."""
    shutil.copy(ROOT / "run", folder)
    tools = folder / "tools"
    tools.mkdir()
    for tool in ("sh", "cat", "cksum", "dirname", "env", "id", "rm", "sed"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    return subprocess.run(
        [tools / "sh", folder / "run", *args],
        env={"PATH": str(tools)} | environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("args", [(), ("tests",), ("--help",)])
def test_run_prints_usage_for_an_unknown_task(tmp_path: Path, args: tuple[str, ...]) -> None:
    completed = run_script(tmp_path, *args)
    assert completed.returncode == 2
    assert "./run demo" in completed.stderr
    assert "./run test" in completed.stderr
    assert ("run: there is no task 'tests'" in completed.stderr) == (args == ("tests",))


def test_run_without_python_names_the_required_version(tmp_path: Path) -> None:
    completed = run_script(tmp_path, "demo")
    assert completed.returncode == 1
    assert "Python 3.11 or newer is needed" in completed.stderr
    assert not (tmp_path / ".venv").exists()


def test_run_rejects_a_python_that_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    assert "Python 3.11 or newer is needed" in run_script(tmp_path, "demo", PYTHON=str(old)).stderr


def test_run_without_ensurepip_names_the_package_to_install(tmp_path: Path) -> None:
    bare = tmp_path / "python-without-ensurepip"
    bare.write_text(
        f"""#!/bin/sh
case "$*" in *ensurepip*) exit 1 ;; esac
exec {sys.executable} "$@"
"""
    )
    bare.chmod(0o755)
    completed = run_script(tmp_path, "demo", PYTHON=str(bare))
    assert completed.returncode == 1
    assert f"install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in completed.stderr


def test_run_test_installs_the_postgresql_server_unless_it_exists(tmp_path: Path) -> None:
    for name, text in {
        ".venv/bin/python": "",
        "apt-get": f'echo "$*" >>{tmp_path}/apt; case "$*" in *install*) exit 1 ;; esac',
        "id": "echo 0",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    environ = {"PATH": f"{tmp_path}:{tmp_path}/tools", "CHROMIUM": "sh"}
    (tmp_path / "cc").symlink_to(tmp_path / "id")
    completed = run_script(tmp_path, "test", POSTGRESQL_BIN=str(tmp_path), **environ)
    assert completed.returncode == 1
    assert "postgresql-15 postgresql-contrib could not be installed: install postgresql-15" in completed.stderr
    lock = "-o DPkg::Lock::Timeout=300"
    commands = (tmp_path / "apt").read_text().splitlines()
    assert commands == [f"{lock} update -qq", f"{lock} install -y -qq postgresql-15 postgresql-contrib"]
    (tmp_path / "initdb").symlink_to(tmp_path / "id")
    shutil.rmtree(tmp_path / "tools")
    assert "postgresql" not in run_script(tmp_path, "test", POSTGRESQL_BIN=str(tmp_path), **environ).stderr


def test_run_hides_index_addresses_in_the_errors_of_pip(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    pip_error = "https://user:hush@index.example/simple HTTPSConnectionPool(host='index.example', port=443)"
    python.write_text(f"""#!/bin/sh
case "$*" in *install*) echo "ERROR: No matching distribution found {pip_error}"; exit 1 ;; esac
""")
    python.chmod(0o755)
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    completed = run_script(tmp_path, "demo")
    assert completed.returncode == 1
    assert "No matching distribution found <address> HTTPSConnectionPool(host=<address>, port=443)" in completed.stderr
    assert "example" not in completed.stdout + completed.stderr


def test_every_noqa_and_type_ignore_has_a_code_and_a_reason() -> None:
    bare = re.compile(
        r"#\s*(?:type:\s*ignore|noqa)(?!\[[a-z-]+(?:, ?[a-z-]+)*\]\s+\S|: [A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*\s+\S)"
    )
    files = [*SOURCES, ROOT / "app.py", *(ROOT / "tests").rglob("*.py")]
    lines = [(path, line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [f"{path.name}: {line.strip()}" for path, line in lines if bare.search(line) and "bare = " not in line]
