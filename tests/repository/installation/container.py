"""Container that `config/Containerfile` describes, built and run in a changed root folder, without a builder.

Each stage gets a base system of its own, in which its instructions run. It needs root, but no namespaces: without them
the file system of the running container is not read-only, and it has no processes of its own.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.repository.installation.base_system import create_base_system
from tests.repository.installation.containerfile import IGNORED, Stage
from tests.support.paths import ROOT
from tests.support.processes.supervised_service import PATIENCE_SECONDS, processes_of, wait_patiently

__all__ = ["Container", "RunningContainer", "build_image", "can_mount"]

BASE_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WHEELS = "/wheels"
METADATA = ("EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD", "USER", "VOLUME")
"""Instructions that change no file. The container follows them."""

NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
MOUNT = """set -eu
root=$1 volume=$1$2
mount --bind "$root" "$root"
mount --bind "$volume" "$volume"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --bind /dev/null "$root/dev/null"
mount -o remount,ro,bind "$root"
shift 2
exec "$@"
"""
"""Commands that leave only the volume and /tmp writable, as `podman run --read-only --tmpfs /tmp` does."""


def can_mount() -> bool:
    """Return True if this process can create the namespaces and file systems of a container."""
    check = (
        "mount --bind /usr /usr && mount -o remount,ro,bind /usr && mount -t proc proc /proc && mount -t tmpfs x /mnt"
    )
    return subprocess.run([*NAMESPACES, "sh", "-ec", check], capture_output=True, timeout=60).returncode == 0


def build_image(folder: Path, stages: Sequence[Stage], wheels: Path) -> Path:
    """Run the instructions of all stages, and return the root folder of the last one.

    Packages come from the folder `wheels`, because the machine may reach an index only in ways that a container lacks.
    """
    roots: dict[str, Path] = {}
    for number, stage in enumerate(stages):
        alias = stage.value("FROM").partition(" AS ")[2] or str(number)
        roots[alias] = folder / alias
        create_base_system(roots[alias])
        _Build(roots[alias], roots, wheels).run(stage)
    return roots[alias]


@dataclass
class _Build:
    """Build of one stage. `roots` has the root folders of all stages so far by their names."""

    root: Path
    roots: dict[str, Path]
    wheels: Path
    folder: str = "/"
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH})

    def run(self, stage: Stage) -> None:
        """Run the instructions after FROM."""
        if any(" pip install " in command for command in stage.values("RUN")):
            shutil.copytree(self.wheels, _below(self.root, WHEELS))
        for name, value in stage.instructions[1:]:
            if name == "RUN":
                self._run_command(value)
            elif name == "COPY":
                self._copy(value.split())
            elif name == "ENV":
                self.environment |= dict([value.split("=", 1)])
            elif name == "WORKDIR":
                self.folder = value
                _below(self.root, value).mkdir(parents=True, exist_ok=True)
            else:
                assert name in METADATA, f"unknown instruction {name}"

    def _run_command(self, command: str) -> None:
        environment = self.environment | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS}
        line = _change_root(self.root, ["sh", "-c", command], environment, self.folder)
        completed = subprocess.run(line, capture_output=True, text=True, timeout=300)
        assert completed.returncode == 0, f"{command}\n{completed.stderr}"

    def _copy(self, words: list[str]) -> None:
        """Copy files from the clone, or from an earlier stage. The content of a folder goes into the target."""
        stage = words[0].removeprefix("--from=") if words[0].startswith("--from=") else ""
        source_root = self.roots[stage] if stage else ROOT
        *sources, target = words[1:] if stage else words
        place = _below(self.root, str(Path(self.folder, target)))
        for source in (source_root / each.lstrip("/") for each in sources):
            if stage:  # moved instead, because only one stage needs it
                place.parent.mkdir(parents=True, exist_ok=True)
                source.rename(place)
            elif source.is_dir():
                shutil.copytree(source, place, ignore=_ignore, dirs_exist_ok=True)
            else:
                shutil.copy2(source, place / source.name if target.endswith("/") else place)


def _ignore(_: str, names: list[str]) -> set[str]:
    """Return the names that the ignore file leaves out of each folder."""
    patterns = [line[3:] for line in IGNORED.read_text(encoding="utf-8").splitlines() if line.startswith("**/")]
    return {name for pattern in patterns for name in fnmatch.filter(names, pattern)}


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _change_root(
    root: Path, command: Sequence[str], environment: Mapping[str, str], folder: str, user: str = "0:0"
) -> list[str]:
    """Return the command line of a command in another root folder, in which it has only these variables."""
    variables = [f"{name}={value}" for name, value in environment.items()]
    return ["chroot", f"--userspec={user}", "--groups=", str(root), "env", "-C", folder, "-i", *variables, *command]


class Container:
    """Container of an image whose root folder is `root`. `environment` replaces variables of the image."""

    def __init__(self, root: Path, stage: Stage, environment: Mapping[str, str], *, mounts: bool) -> None:
        self.root, self._stage, self.mounts = root, stage, mounts
        self.volume = _below(root, stage.value("VOLUME"))
        self._environment = {"PATH": BASE_PATH, **stage.environment(), **environment}

    def _line(self, command: Sequence[str]) -> list[str]:
        stage = self._stage
        return _change_root(self.root, command, self._environment, stage.value("WORKDIR"), stage.value("USER"))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the service, as `podman exec` does."""
        return subprocess.run(self._line(command), capture_output=True, text=True, timeout=120)

    def is_healthy(self) -> bool:
        """Return True if the health check succeeds."""
        return self.run(*self._stage.health_check()).returncode == 0

    @contextmanager
    def started(self, log: Path) -> Iterator[RunningContainer]:
        """Start the service, with its output in the file `log`. It is killed in the end if it is still there."""
        line = self._line(self._stage.command())
        if self.mounts:
            line = [*NAMESPACES, "sh", "-c", MOUNT, "sh", str(self.root), self._stage.value("VOLUME"), *line]
        with log.open("wb") as output, subprocess.Popen(line, stdout=output, stderr=output) as process:
            try:
                yield RunningContainer(self, process, log)
            finally:
                process.kill()


class RunningContainer:
    """Service that runs in a container."""

    def __init__(self, container: Container, process: subprocess.Popen[bytes], log: Path) -> None:
        self._container, self._process, self._log = container, process, log

    def wait_until_healthy(self) -> None:
        """Wait until the health check succeeds. Fail with the log if the service has ended."""

        def is_healthy() -> bool:
            assert self._process.poll() is None, self._log.read_text()
            return self._container.is_healthy()

        wait_patiently(is_healthy)

    def status(self) -> dict[str, str]:
        """Return the lines of the kernel's description of the first process by their names."""
        lines = Path(f"/proc/{self._pid()}/status").read_text().splitlines()
        return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}

    def root_options(self) -> list[str]:
        """Return the mount options of the root folder of the first process; none if it is no mount."""
        mounts = [line.split() for line in Path(f"/proc/{self._pid()}/mounts").read_text().splitlines()]
        return next((options.split(",") for _, place, _, options, *_ in reversed(mounts) if place == "/"), [])

    def stop(self) -> int:
        """Send SIGTERM to the first process, and return its exit code."""
        os.kill(self._pid(), signal.SIGTERM)
        return self._process.wait(PATIENCE_SECONDS)

    def _pid(self) -> int:
        return processes_of(self._process.pid)[0] if self._container.mounts else self._process.pid
