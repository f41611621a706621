"""Command `man-page`."""

from __future__ import annotations

import re

from chalk_flask.cli import COMMANDS
from tests.cli.conftest import RunCommand


def test_page_has_a_section_for_each_command(run: RunCommand) -> None:
    page = run("man-page")
    assert page.code == 0
    assert page.out.startswith('.TH CHALK\\-FLASK 1 "" "Chalk Flask ')
    sections = re.findall(r'^\.SH "(.*)"$', page.out.replace("\\-", "-"), re.MULTILINE)
    assert {f"chalk-flask {name}" for name in COMMANDS} < {*sections}
    assert "chalk-flask token create" in sections


def test_page_contains_the_help_texts_and_no_other_control_lines(run: RunCommand) -> None:
    page = run("man-page").out
    assert {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))} == {
        ".TH",
        ".SH",
        ".nf",
        ".fi",
    }
    text = " ".join(page.replace("\\-", "-").replace("\\e", "\\").split())
    assert "--keep NUMBER FILE is a folder: delete all but this number" in text
