"""Key file: created once, private, and the same for all processes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chalk_flask.auth.secrets.key_file import KeyFile, KeyFileError
from tests.support.paths import ROOT, write_private


def test_key_is_private_and_permanent(tmp_path: Path) -> None:
    path = tmp_path / "data" / "key"
    key_file = KeyFile(path)
    assert key_file.read() is None
    key = key_file.read_or_create()
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["key"], "no temporary file remains"
    assert KeyFile(path).read_or_create() == key_file.read() == key


@pytest.mark.slow
def test_processes_that_start_at_once_agree_on_the_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from chalk_flask.auth.secrets.key_file import KeyFile;"
        "sys.stdin.readline(); print(KeyFile(Path(sys.argv[1])).read_or_create().hex())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data" / "key")]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environ}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    keys = {process.communicate(timeout=60)[0] for process in processes}
    assert len(keys) == 1
    assert len(keys.pop()) == 65


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"0" * 62, b"0" * 66, b"g" * 64])
def test_invalid_key_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    write_private(path, content)
    with pytest.raises(KeyFileError, match=f"the key file {path} contains no key of this service"):
        KeyFile(path).read_or_create()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o660, 0o666])
def test_key_file_that_others_can_access_is_rejected(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a key"
    key = KeyFile(path).read_or_create()
    key_file = KeyFile(path)
    assert key_file.read() == key
    path.chmod(mode)
    for each in (key_file, KeyFile(path)):
        with pytest.raises(KeyFileError, match=f"other users can access the key file .*: run chmod 600 '{path}'"):
            each.read_or_create()
    path.chmod(0o400)
    assert key_file.read() == key


@pytest.mark.parametrize("make", [partial(os.mkfifo, mode=0o600), partial(os.mkdir, mode=0o700)])
def test_special_file_in_place_of_the_key_is_rejected_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "key"
    key_file = KeyFile(path)
    key_file.read_or_create()
    path.unlink()
    make(path)
    for each in (key_file, KeyFile(path)):
        with pytest.raises(KeyFileError, match=f"the key file {path} is not a regular file: restore it"):
            each.read_or_create()


def test_link_to_a_key_file_is_followed(tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "mounted").read_or_create()
    (tmp_path / "key").symlink_to("mounted")
    assert KeyFile(tmp_path / "key").read() == key


def test_unusable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyFileError, match=r"cannot (read|create) the key file .*file/key"):
        KeyFile(tmp_path / "file" / "key").read_or_create()
