"""Container file: its stages, and the container, which is built and run here without a builder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from chalk_flask.settings import SETTINGS
from tests.cli.conftest import get_json
from tests.repository.installation.container import Container, build_image, can_mount
from tests.repository.installation.containerfile import read_stages
from tests.repository.installation.wheels import wheel_folder
from tests.support.paths import ROOT
from tests.support.server_process import free_port
from tests.support.storage.owners import requires_root

STAGES = read_stages()
BUILD, FINAL = STAGES


def test_stages_have_one_slim_base_and_the_final_one_installs_nothing() -> None:
    base, _, alias = BUILD.value("FROM").partition(" AS ")
    assert (FINAL.value("FROM"), alias) == (base, "build")
    assert re.fullmatch(r"docker\.io/library/python:3\.1[1-4]-slim-[a-z]+", base)
    assert FINAL.values("COPY") == ["--from=build /opt/chalk-flask /opt/chalk-flask"]
    assert not [command for command in FINAL.values("RUN") if re.search(r"\b(pip|apt-get|apt)\b", command)]


def test_program_runs_without_root_on_a_private_volume() -> None:
    user, _, group = FINAL.value("USER").partition(":")
    assert user == group
    create_user, create_folder = FINAL.values("RUN")
    assert f"--uid {user} " in create_user
    assert create_folder == f"install -d -m 0700 -o {user} -g {group} {FINAL.value('VOLUME')}"
    names = [name for name, _ in FINAL.instructions]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in ("RUN", "COPY"))


def test_environment_has_settings_and_keeps_files_in_the_volume() -> None:
    variables = {name: text for name, text in FINAL.environment().items() if name.startswith("CHALK_")}
    assert set(variables) <= {setting.variable for setting in SETTINGS}
    assert all(f"{FINAL.value('VOLUME')}/" in variables[name] for name in ("CHALK_STORAGE", "CHALK_DATA"))
    assert variables["CHALK_PORT"] == FINAL.value("EXPOSE")


def test_copied_files_are_in_the_context_and_stores_are_not() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    copied = [source for line in BUILD.values("COPY") for source in line.split()[:-1]]
    assert patterns[0] == "*"
    assert sorted(pattern[1:] for pattern in patterns if pattern[0] == "!") == sorted(copied)
    assert all((ROOT / source).exists() for source in copied)
    assert any(fnmatchcase("chalk_flask/chalk.db", pattern) for pattern in patterns[1:])


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Root folder of the image, which is built once."""
    folder = tmp_path_factory.mktemp("image")
    folder.chmod(0o755)
    former = os.umask(0o022)
    try:
        yield build_image(folder, STAGES, wheel_folder())
    finally:
        os.umask(former)
        shutil.rmtree(folder)  # it has the size of a system


def states(root: Path) -> dict[str, tuple[int, int, int]]:
    """Return owner, size and time of change of each file outside of the volume and /tmp."""
    writable = {root / value.lstrip("/") for value in (FINAL.value("VOLUME"), "/tmp")}
    found = {}
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if Path(folder, name) not in writable]
        for path in (Path(folder, name) for name in (*subfolders, *names)):
            status = path.lstat()
            found[str(path)] = (status.st_uid, status.st_size, status.st_mtime_ns)
    return found


@requires_root
@pytest.mark.slow
def test_built_container_serves_as_its_user_and_changes_only_its_volume(image: Path, tmp_path: Path) -> None:
    check_container(image, tmp_path / "chroot.log", mounts=False)
    if can_mount():
        check_container(image, tmp_path / "mounts.log", mounts=True)


def check_container(image: Path, log: Path, *, mounts: bool) -> None:
    """Run the container with a file system that is read-only if `mounts` is set, and compare its files afterwards."""
    port, before = free_port(), states(image)
    environment = {"CHALK_PORT": str(port), "CHALK_HOST": "127.0.0.1"}
    container = Container(image, FINAL, environment, mounts=mounts)
    with container.started(log) as running:
        running.wait_until_healthy()
        status = running.status()
        assert status["Uid"] == status["Gid"] == " ".join([FINAL.value("USER").partition(":")[0]] * 4)
        assert status["Groups"] == ""
        assert ("ro" in running.root_options()) == mounts
        token = container.run("chalk-flask", "token", "create", "--label", "x").stdout.split()[0]
        assert get_json(f"http://127.0.0.1:{port}/ims/oneroster/v1p1/orgs", token) == {"orgs": []}
        assert running.stop() == 0
    assert not container.is_healthy()
    assert states(image) == before
    assert {owner for owner, _, _ in before.values()} == {0}
    assert (container.volume / "chalk.db").stat().st_uid == container.volume.stat().st_uid
