"""Tables of commands: alignment, and their form on a narrow terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chalk_flask.cli.table import format_table
from tests.cli.conftest import ENVIRON, RunCommand

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

HEAD = ("RUN", "CREATED", "NOTE")
ROWS = [("run-1", "1,234", "first"), ("run-22", "-", "")]


def test_numbers_are_aligned_at_their_end() -> None:
    assert format_table(HEAD, ROWS).splitlines() == [
        "RUN     CREATED  NOTE",
        "run-1     1,234  first",
        "run-22        -",
    ]


def test_table_that_is_too_wide_becomes_a_block_for_each_row() -> None:
    assert format_table(HEAD, ROWS, 22) == format_table(HEAD, ROWS)
    assert format_table(HEAD, ROWS, 21).splitlines() == [
        "RUN      run-1",
        "CREATED  1,234",
        "NOTE     first",
        "",
        "RUN      run-22",
        "CREATED  -",
        "NOTE",
    ]


def test_table_without_rows_is_its_head() -> None:
    assert format_table(HEAD, [], 5) == "RUN  CREATED  NOTE"


def test_wide_characters_count_as_two_columns() -> None:
    lines = format_table(("NAME", "NOTE"), [("学校", "x"), ("school", "y")], 80).splitlines()
    assert lines == ["NAME    NOTE", "学校    x", "school  y"]


def shown_on_terminal(tmp_path: Path, *args: str, **environ: str) -> str:
    """Return what a command prints on a terminal of 80 columns."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "chalk_flask", *args]
    env = ENVIRON | {"COLUMNS": "80", "TERM": "xterm-256color"} | environ
    subprocess.run(command, cwd=tmp_path, env=env, stdout=slave, check=True, timeout=120)
    os.close(slave)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    return shown


def test_list_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    shown = CONTROL.sub("", shown_on_terminal(tmp_path, "config", "show", "--storage", "x" * 90))
    assert shown.startswith("SETTING  storage\r\nVALUE    sqlite")
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("no_color", [True, False])
@pytest.mark.usefixtures("empty_store")
def test_states_have_colors_on_a_terminal_without_no_color(no_color: bool, run: RunCommand, tmp_path: Path) -> None:
    assert run("token", "create", "--label", "x").code == 0
    piped = run("token", "list").out
    assert "active" in piped
    assert "\x1b" not in piped
    shown = shown_on_terminal(tmp_path, "token", "list", **({"NO_COLOR": "1"} if no_color else {}))
    assert ("\x1b[32mactive" in shown) is not no_color
    assert "\x1b[1m" in shown, "the names of columns are bold"
