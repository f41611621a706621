"""Texts of the console that name a setting: only the operator can change it, so they must say so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import chalk_flask
from chalk_flask.settings import SETTINGS

ROOT = Path(chalk_flask.__file__).parent
NAMES = "|".join(setting.name for setting in SETTINGS)
IN_TEMPLATES = re.compile(rf"<p[^>]*>((?:(?!</p>).)*<code>(?:{NAMES})</code>.*?)</p>", re.DOTALL)
IN_MESSAGES = re.compile(rf"\bsetting `?(?:{NAMES})\b")
NOT_MESSAGES = {"{} (setting oidc_access)", " the setting `overdue_hours`"}
"""Suffix of errors of the settings, and a text that the page of an account replaces."""
PARTS = ("admins", "console", "jobs", "oneroster/csv", "roster", "sources")


def messages(path: Path) -> Iterator[str]:
    """Yield the texts of a module, except docstrings. Values of f-strings are {}."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(map(id, node.values))
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def test_templates_that_name_a_setting_name_the_operator() -> None:
    templates = sorted((ROOT / "console" / "templates").rglob("*.html"))
    texts = [found[1] for path in templates for found in IN_TEMPLATES.finditer(path.read_text("utf-8"))]
    assert len(texts) >= 4
    assert [text for text in texts if "operator" not in text] == []


@pytest.mark.parametrize("part", PARTS)
def test_messages_that_name_a_setting_name_the_operator(part: str) -> None:
    texts = {
        text for path in (ROOT / part).rglob("*.py") for text in messages(path) if IN_MESSAGES.search(text)
    } - NOT_MESSAGES
    assert {text for text in texts if "operator" not in text} == set()
