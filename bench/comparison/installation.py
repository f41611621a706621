"""Installation of the other servers into a cache folder: packages of PyPI and npm, and the program nginx of Debian.

Nothing outside of that folder changes. Later runs use what is there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from bench.servers import BenchmarkError

__all__ = ["SERVER_NAMES", "ServerName", "cache_folder", "install_servers"]

ServerName: TypeAlias = Literal["baseline", "nginx", "sqlalchemy", "datasette", "json-server"]

SERVER_NAMES: Final[tuple[ServerName, ...]] = get_args(ServerName)
REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
JSON_SERVER: Final = "json-server@0.17.4"
TIMEOUT_SECONDS: Final = 900.0
MESSAGE_LENGTH: Final = 600


def cache_folder() -> Path:
    """Return the folder of installed programs."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "chalk-flask-bench"


def install_servers(names: Iterable[ServerName], folder: Path) -> Mapping[ServerName, Path | None]:
    """Install servers, unless they are installed, and return the program of each.

    The baseline has none, because it is a part of the benchmark. Raises BenchmarkError that names the server and the
    reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _INSTALLERS[name](folder) if name in _INSTALLERS else None for name in names}


def _install_python_packages(folder: Path) -> Path:
    """Return the interpreter of an environment with the packages of requirements.txt."""
    python, installed = folder / "python/bin/python", folder / "python/requirements.txt"
    if not installed.exists() or installed.read_bytes() != REQUIREMENTS.read_bytes():
        _run("sqlalchemy and datasette", [sys.executable, "-m", "venv", "--clear", str(folder / "python")])
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-q"]
        _run("sqlalchemy and datasette", [*pip, "-r", str(REQUIREMENTS)])
        shutil.copyfile(REQUIREMENTS, installed)
    return python


def _install_json_server(folder: Path) -> Path:
    """Return the script of json-server."""
    script, npm = folder / "npm/node_modules/json-server/lib/cli/bin.js", shutil.which("npm")
    if not shutil.which("node") or not npm:
        raise BenchmarkError(_message("json-server", "node and npm are not on PATH: apt-get install nodejs npm"))
    if not script.exists():
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-save"]
        _run("json-server", [npm, "install", "--prefix", str(folder / "npm"), *options, JSON_SERVER])
    return script


def _install_nginx(folder: Path) -> Path:
    """Return nginx: the installed one, or that of the Debian package, which is unpacked without being installed."""
    unpacked = folder / "nginx/usr/sbin/nginx"
    if found := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return Path(found)
    if not unpacked.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg"):
            raise BenchmarkError(_message("nginx", "it is not on PATH, and this is no Debian: install nginx"))
        archives = folder / "nginx/archives"
        archives.mkdir(parents=True, exist_ok=True)
        # In Debian 12 the program is in `nginx`, on which `nginx-light` depends; before, it was in `nginx-light`.
        _run("nginx", ["apt-get", "download", "-q", "nginx-light", "nginx"], archives)
        for archive in archives.glob("*.deb"):
            _run("nginx", ["dpkg", "-x", str(archive), str(folder / "nginx")])
    return unpacked


_INSTALLERS: Final[Mapping[ServerName, Callable[[Path], Path]]] = {
    "nginx": _install_nginx,
    "sqlalchemy": _install_python_packages,
    "datasette": _install_python_packages,
    "json-server": _install_json_server,
}


def _run(server: str, command: Sequence[str], folder: Path | None = None) -> None:
    try:
        completed = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(_message(server, f"{command[0]} took more than {TIMEOUT_SECONDS:g} s")) from None
    if completed.returncode:
        # URLs of package indexes may contain a password.
        output = re.sub(r"[a-z+]*://\S*", "<address>", completed.stderr or completed.stdout).strip()
        reason = f"{Path(command[0]).name} exited with {completed.returncode}: {output[-MESSAGE_LENGTH:]}"
        raise BenchmarkError(_message(server, reason))


def _message(server: str, reason: str) -> str:
    return f"cannot install {server}: {reason}\nTo measure without it, name the others after --rivals."
