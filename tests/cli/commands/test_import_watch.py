"""Command `import --watch`: exit codes, signals, and kills at random moments."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import RunCommand, StartCommand, stop_process
from tests.support.packages import PackageBuilder, package_with_users
from tests.support.server_process import read_until

WATCH = ("import", "--watch", "incoming", "--settle", "1")


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


def test_watch_once_exits_with_the_code_of_the_worst_outcome(run: RunCommand, incoming: Path) -> None:
    package_with_users(200).zip(incoming / "a.zip")
    assert run(*WATCH, "--once").code == 0
    package_with_users(150).zip(incoming / "a.zip")
    assert run(*WATCH, "--once").code == 3
    PackageBuilder().set("users", "pupil-1", role="pilot").zip(incoming / "a.zip")
    assert run(*WATCH, "--once").code == 1
    assert [run["state"] for run in run("imports", "list", "--json").json["imports"]] == [
        "committed",
        "held",
        "refused",
    ]


def test_watch_rejects_options_of_a_single_import(run: RunCommand, incoming: Path) -> None:
    for options in (["x.zip"], ["--dry-run"], ["--csv", "x.csv"], ["--quiet"], ["--json"], ["--settle", "0"]):
        assert run("import", "--watch", incoming, *options).code == 2, options
    missing = run("import", "--watch", incoming / "missing", "--once")
    assert missing.code == 2
    assert f"--watch: there is no folder {incoming}/missing: create it" in missing.err
    assert "watch.started" not in missing.err
    assert run(*WATCH, "--once", "--tenant", "nowhere").code == 1


def test_options_of_watch_require_it(run: RunCommand, incoming: Path) -> None:
    package = package_with_users(10).zip(incoming / "a.zip")
    for options in (["--once"], ["--settle", "10"]):
        result = run("import", package, *options)
        assert (result.code, "--settle and --once require --watch" in result.err) == (2, True), options


@pytest.mark.slow
def test_watch_ends_with_sigterm_and_logs_no_file_name(start: StartCommand, incoming: Path) -> None:
    with start(*WATCH) as process:
        read_until(process.stderr, "watch.started")
        (incoming / ".part").write_bytes(package_with_users(20).zip_bytes())
        (incoming / ".part").rename(incoming / "Family1.zip")
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "package.moved" in line:
                break
        assert stop_process(process) == 0
        lines += process.stderr.readlines()
    log = "".join(lines)
    assert "import.committed" in log
    assert "watch.stopped" in log
    assert "Family1" not in log
    assert [path.name.partition("-")[2] for path in sorted((incoming / "done").iterdir())] == [
        "Family1.zip",
        "Family1.zip.txt",
    ]


@pytest.mark.slow
def test_killed_watch_imports_each_package_once(run: RunCommand, start: StartCommand, incoming: Path) -> None:
    moments = random.Random(12)
    interrupted = 0
    assert run("import", package_with_users(20).zip(incoming.parent / "first.zip")).code == 0
    for number in range(4):
        package_with_users(2000 + number).zip(incoming / f"{number}.zip")
        for _ in range(2):
            with start(*WATCH) as process:
                read_until(process.stderr, "watch.started")
                wait_for_import(incoming, f"{number}.zip")
                time.sleep(moments.uniform(0, 0.6))
                process.send_signal(signal.SIGKILL)
                process.wait()
            interrupted += has_import(incoming)
        assert run(*WATCH, "--once").code == 0
        packages = [path.relative_to(incoming) for path in incoming.rglob("*.zip")]
        assert sorted(path.parts[0] for path in packages) == ["done"] * (number + 1)
        imports = run("imports", "list", "--json").json["imports"]
        assert [entry["state"] for entry in imports] == ["committed"] * (number + 2)
    assert interrupted
    assert not list((incoming / "working").iterdir())


def has_import(incoming: Path) -> bool:
    """Return True if an import has begun and not ended."""
    return any(incoming.glob("working/*/.starts"))


def wait_for_import(incoming: Path, name: str) -> None:
    """Wait until an import has begun. It may have ended too, because a killed process had stored its changes."""
    while not has_import(incoming) and not any(incoming.glob(f"done/*-{name}")):
        time.sleep(0.002)
