"""Command `completion`: its script completes commands, options and values in a real bash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ENVIRON, RunCommand
from tests.cli.conftest import run as run

INSTALLED_SCRIPTS = Path(sys.executable).parent
"""Folder with the script `chalk-flask` of this environment."""

PRESS_TAB = """
eval "$(chalk-flask completion bash)"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
$(complete -p chalk-flask | sed 's/.*-F \\([^ ]*\\).*/\\1/') chalk-flask
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""Script that calls the function which bash calls for the Tab key, and prints what bash would offer."""


def complete(folder: Path, *words: str) -> list[str]:
    environ = ENVIRON | {"PATH": f"{INSTALLED_SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", PRESS_TAB, "bash", "chalk-flask", *words]
    completed = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60)
    assert completed.stderr == ""
    return completed.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("im",), ["import", "imports"]),
        (("imports", "a"), ["approve"]),
        (("import", "--dr"), ["--dry-run"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("serve", "--log-format", ""), ["plain", "json"]),
        (("serve", "--console", "f"), ["false"]),
        (("serve", "--smtp-sec"), ["--smtp-security"]),
    ],
)
def test_bash_completes_commands_options_and_values(
    tmp_path: Path, words: tuple[str, ...], expected: list[str]
) -> None:
    offered = complete(tmp_path, *words)
    assert offered == expected


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "complete -o nosort -F _chalk_flask_completion chalk-flask"),
        ("zsh", "#compdef chalk-flask"),
        ("fish", "complete --no-files --command chalk-flask"),
    ],
)
def test_script_registers_the_program(run: RunCommand, shell: str, line: str) -> None:
    result = run("completion", shell)
    assert (result.code, result.err) == (0, "")
    assert line in result.out
    assert f"_CHALK_FLASK_COMPLETE={shell}_complete" in result.out


def test_unknown_shell_is_a_usage_error(run: RunCommand) -> None:
    result = run("completion", "cmd")
    assert result.code == 2
    assert "'bash', 'zsh', 'fish'" in result.err
