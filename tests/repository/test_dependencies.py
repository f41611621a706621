"""Page of the dependencies: it describes exactly those of the package."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement

from tests.support.paths import ROOT


def test_page_has_a_row_for_each_runtime_dependency_in_order() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [Requirement(text).name for text in project["dependencies"]]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert [name for name, _, _ in rows] == declared
    for name, purpose, alternatives in rows:
        assert len(purpose) > 10, name
        assert alternatives == "see below" or ":" in alternatives, name


def test_page_explains_what_stays() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    section = page.partition("## Why these stay")[2]
    terms = re.findall(r"^(\S.*)\n: ", section, re.MULTILINE)
    assert set(terms) >= {
        *("`sqlite-utils`", "`waitress`", "`logging` of Python", "Lines of a table that are piped"),
        *("Rules of single settings", "The CSV reader", "The filter parser"),
    }
