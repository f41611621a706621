"""Tables of commands: alignment, and their form on a narrow terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from chalk_flask.cli.table import format_table
from tests.cli.conftest import ENVIRON

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


def test_list_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "chalk_flask", "config", "show", "--storage", "x" * 90]
    subprocess.run(command, cwd=tmp_path, env=ENVIRON | {"COLUMNS": "80"}, stdout=slave, check=True, timeout=60)
    os.close(slave)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    assert shown.startswith("SETTING  storage\r\nVALUE    sqlite")
