"""Container file: its stages, and its commands, which run here without a container."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

import pytest

from chalk_flask.settings import SETTINGS
from tests.repository.installation.wheels import wheel_folder
from tests.support.paths import ROOT
from tests.support.server_process import free_port

Instructions: TypeAlias = list[tuple[str, str]]


def read_stages() -> list[Instructions]:
    """Return the instructions of each stage. The first one is FROM."""
    stages: list[Instructions] = []
    for line in (ROOT / "config" / "Containerfile").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition(" ")
            if name == "FROM":
                stages.append([])
            stages[-1].append((name, value))
    return stages


BUILD, FINAL = read_stages()


def values(stage: Instructions, name: str) -> list[str]:
    return [value for instruction, value in stage if instruction == name]


def value(stage: Instructions, name: str) -> str:
    [only] = values(stage, name)
    return only


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in values(FINAL, "ENV"))


def test_stages_have_one_slim_base_and_the_final_one_installs_nothing() -> None:
    base, _, alias = value(BUILD, "FROM").partition(" AS ")
    assert (value(FINAL, "FROM"), alias) == (base, "build")
    assert re.fullmatch(r"docker\.io/library/python:3\.1[1-4]-slim-[a-z]+", base)
    assert values(FINAL, "COPY") == ["--from=build /opt/chalk-flask /opt/chalk-flask"]
    assert not [command for command in values(FINAL, "RUN") if re.search(r"\b(pip|apt-get|apt)\b", command)]


def test_program_runs_without_root_on_a_private_volume() -> None:
    user, _, group = value(FINAL, "USER").partition(":")
    assert user == group
    create_user, create_folder = values(FINAL, "RUN")
    assert f"--uid {user} " in create_user
    assert create_folder == f"install -d -m 0700 -o {user} -g {group} {value(FINAL, 'VOLUME')}"
    names = [name for name, _ in FINAL]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in ("RUN", "COPY"))


def test_environment_has_settings_and_keeps_files_in_the_volume() -> None:
    variables = {name: text for name, text in environment().items() if name.startswith("CHALK_")}
    assert set(variables) <= {setting.variable for setting in SETTINGS}
    assert all(f"{value(FINAL, 'VOLUME')}/" in variables[name] for name in ("CHALK_STORAGE", "CHALK_DATA"))
    assert variables["CHALK_PORT"] == value(FINAL, "EXPOSE")


def test_copied_files_are_in_the_context_and_stores_are_not() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    copied = [source for line in values(BUILD, "COPY") for source in line.split()[:-1]]
    assert patterns[0] == "*"
    assert sorted(pattern[1:] for pattern in patterns if pattern[0] == "!") == sorted(copied)
    assert all((ROOT / source).exists() for source in copied)
    assert any(fnmatchcase("chalk_flask/chalk.db", pattern) for pattern in patterns[1:])


def run_build_stage(root: Path) -> None:
    """Run the instructions of the first stage with the paths of the container below `root`."""
    folder = root / value(BUILD, "WORKDIR").lstrip("/")
    folder.mkdir(parents=True)
    environ = {"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel_folder())}
    environ["PIP_NO_COMPILE"] = "1"  # half of the time
    for name, line in BUILD:
        if name == "COPY":
            *sources, target = line.split()
            for source in sources:
                copy_file_or_folder(ROOT / source, folder / target / ("" if target != "./" else source))
        elif name == "RUN":
            command = line.replace("python3 ", f"{sys.executable} ").replace("/opt/", f"{root}/opt/")
            completed = subprocess.run(shlex.split(command), cwd=folder, env=environ, capture_output=True, text=True)
            assert completed.returncode == 0, line


def copy_file_or_folder(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.db*"))
    else:
        shutil.copy(source, target)


def wait_for(health_check: list[str], environ: dict[str, str], expected: int) -> bool:
    for _ in range(100):
        if subprocess.run(health_check, env=environ, capture_output=True, timeout=20).returncode == expected:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_built_program_serves_and_its_health_check_notices_a_stop(tmp_path: Path) -> None:
    run_build_stage(tmp_path)
    program = tmp_path / "opt/chalk-flask"
    data = tmp_path / value(FINAL, "VOLUME").lstrip("/")
    data.mkdir(mode=0o700)
    environ = {name: text.replace("/data", str(data), 1) for name, text in environment().items()}
    environ |= {"PATH": environ["PATH"].replace("/opt/", f"{tmp_path}/opt/"), "CHALK_HOST": "127.0.0.1"}
    environ |= {"CHALK_PORT": str(free_port())}
    files = sorted(program.rglob("*"))
    command = [*json.loads(value(FINAL, "ENTRYPOINT")), *json.loads(value(FINAL, "CMD"))]
    health_check = json.loads(value(FINAL, "HEALTHCHECK").partition(" CMD ")[2])
    command[0], health_check[0] = str(program / "bin" / command[0]), str(program / "bin" / health_check[0])
    with subprocess.Popen(command, cwd=data, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
        try:
            assert wait_for(health_check, environ, 0)
        finally:
            server.terminate()
            _, log = server.communicate(timeout=60)
        assert server.returncode == 0, log
    assert wait_for(health_check, environ, 1)
    assert sorted(program.rglob("*")) == files, "the root file system is read-only"
    assert (data / "chalk.db").exists()
