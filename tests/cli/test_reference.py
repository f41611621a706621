"""The documented command line is the real one."""

from __future__ import annotations

from tests.cli.reference import reference
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "cli.md"


def test_the_page_on_the_command_line_is_what_help_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python -m tests.cli.reference > docs/cli.md"
