"""Prose of the product: docstrings start with a verb, and retired words do not come back."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

SOURCES = sorted(
    [ROOT / "app.py", *(path for name in ("backends", "chalk_flask") for path in (ROOT / name).rglob("*.py"))]
)
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(path for path in (ROOT / "config").iterdir() if path.is_file()),
    ]
)

RETIRED = re.compile(
    r"\b(doors?|sights?|kni(?:fe|ves)|blades?|ledgers?|brakes?|braking|bury|buries|buried|tired?|tires|vaults?|desks?"
    r"|acquaintances?|nobody|whoever|whatever|is told|are told|be told|was told|gets? in|lets? in|let in|who wants"
    r"|moments?|will not do)\b",
    re.IGNORECASE,
)
JSON_KEYS = {"brake"}
"""Retired words that stay as keys of JSON documents and stored records."""

WEAK_OPENING = re.compile(r"(Whether|Who|Whose|Whom|How|All|Those|Of)\b")
"""Openings of a docstring that ruff's rule D401 does not report."""


def function_docstrings() -> Iterator[tuple[Path, str, str]]:
    """Yield file, function name and docstring of every documented function of the product."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (text := ast.get_docstring(node)):
                yield path, node.name, text


def retired_words_in_source(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and word for each retired word in names, comments and strings, except JSON keys."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            words = token.string.replace("_", " ")
        elif token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            words = token.string
            if words.strip("\"'") in JSON_KEYS:
                continue
        else:
            continue
        for match in RETIRED.finditer(words):
            yield token.start[0] + words.count("\n", 0, match.start()), match[0]


def retired_words_in_document(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and word for each retired word outside of code spans and quoted JSON keys."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in RETIRED.finditer(re.sub(r"`[^`]*`|\"[^\"]*\"", "", line)):
            yield number, match[0]


def test_sources_have_no_retired_words() -> None:
    assert not [
        f"{path.relative_to(ROOT)}:{line}: {word}"
        for path in SOURCES
        for line, word in retired_words_in_source(path.read_text(encoding="utf-8"))
    ]


def test_documents_have_no_retired_words() -> None:
    assert not [
        f"{path.relative_to(ROOT)}:{line}: {word}"
        for path in DOCUMENTS
        for line, word in retired_words_in_document(path.read_text(encoding="utf-8"))
    ]


def test_retired_words_are_found_in_names_comments_strings_and_docs() -> None:
    source = 'door = 1  # nobody\ntext = f"is told {door}"\nkey = "brake"\n'
    assert {word for _, word in retired_words_in_source(source)} >= {"door", "nobody"}
    assert list(retired_words_in_document("Whoever `nobody` knows")) == [(1, "Whoever")]


def test_function_docstrings_start_with_a_verb() -> None:
    assert not [
        f"{path.relative_to(ROOT)}: {name}: {text.splitlines()[0]}"
        for path, name, text in function_docstrings()
        if WEAK_OPENING.match(text)
    ]
