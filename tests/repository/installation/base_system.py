"""Root file system with Python and the commands that a container file uses, copied from this machine.

It stands for the image of FROM, which only a registry has. Nothing is downloaded, and nothing is mounted.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

__all__ = ["create_base_system"]

COMMANDS = ("sh", "env", "install", "useradd")
LOADED_LATER = ("gcc_s", "stdc++", "pthread", "dl", "rt", "util", "m", "resolv")
"""Libraries of each Linux that packages of Python may load, although the base system does not."""
UNUSED = ("dist-packages", "site-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "config-*")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\n",
    "etc/gshadow": "root:*::\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "dev/null": "",
}


def create_base_system(root: Path) -> None:
    """Fill the new folder `root` with a system whose Python is the one that runs the tests."""
    root.mkdir(mode=0o755)
    for folder in ("dev", "etc", "proc", "root", "usr/bin", "usr/local/bin", "usr/sbin"):
        (root / folder).mkdir(mode=0o755, parents=True, exist_ok=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    _link_merged_folders(root)
    for name, text in FILES.items():
        (root / name).write_text(text)
    (root / "dev/null").chmod(0o666)
    programs = [Path(shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") or name) for name in COMMANDS]
    _copy_programs(root, [*programs, *_copy_python(root)])


def _link_merged_folders(root: Path) -> None:
    """Create the links of a system whose programs and libraries are all in /usr."""
    for path in (Path("/") / name for name in ("bin", "sbin", "lib", "lib32", "lib64")):
        if path.is_symlink():
            (root / path.name).symlink_to(f"usr/{path.name}")
            (root / "usr" / path.name).mkdir(exist_ok=True)


def _copy_python(root: Path) -> list[Path]:
    """Copy the standard library, and return the interpreter and its extensions, which load further libraries."""
    interpreter = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]  # missing in typeshed
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(
        library, _below(root, library), ignore=shutil.ignore_patterns(*UNUSED), ignore_dangling_symlinks=True
    )
    wheels = sysconfig.get_config_var("WHEEL_PKG_DIR")  # those of ensurepip, which Debian keeps elsewhere
    if wheels and Path(wheels).is_dir():
        shutil.copytree(wheels, _below(root, Path(wheels)))
    link = root / "usr/local/bin/python3"
    if _below(root, interpreter) != link:
        link.symlink_to(interpreter)
    return [interpreter, *library.glob("lib-dynload/*.so")]


def _copy_programs(root: Path, programs: Iterable[Path]) -> None:
    """Copy programs with the libraries that they load."""
    paths = [str(path) for path in programs]
    printed = subprocess.run(["ldd", *paths], capture_output=True, text=True, timeout=120).stdout
    libraries = {*re.findall(r"(?:=> |^\s+)(/\S+) \(0x", printed, re.MULTILINE)}
    folders = {Path(each).parent for each in libraries}
    later = {str(path) for folder in folders for name in LOADED_LATER for path in folder.glob(f"lib{name}.so.[0-9]")}
    for path in (*paths, *libraries, *later):
        target = _below(root, Path(path))
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")
