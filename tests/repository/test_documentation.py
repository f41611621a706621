"""README and documentation: commands, links and settings in them exist, and derived pages are up to date."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

from bench.figures import TARGETS
from chalk_flask.cli import main
from chalk_flask.settings import SETTINGS
from docs.reference_pages import FOLDER, PAGES
from tests.support.paths import ROOT

README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAX_README_LINES = 130


def shell_lines(text: str) -> list[str]:
    """Return the lines of shell blocks and the commands within sentences."""
    blocks = re.findall(r"^```(?:ba)?sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    commands = "\n".join(blocks).replace("\\\n", "")
    return [*commands.splitlines(), *re.findall(r"`((?:chalk-flask|\./run) [^`]+)`", text)]


def shown_commands() -> Iterator[tuple[str, str]]:
    """Yield document and `chalk-flask` command for each command that a document shows, without pipes."""
    for document in DOCUMENTS:
        for line in shell_lines(document.read_text(encoding="utf-8")):
            for command in re.findall(r"(?:^|[(=\s])(chalk-flask (?![-0-9])[^|)&>]*)", line):
                yield document.name, command


def check_command(command: str) -> None:
    """Raise click.UsageError or KeyError if the command line has an unknown command or option."""
    words = shlex.split(command)[1:]
    resolved: click.Command = main
    while isinstance(resolved, click.Group) and words:
        resolved = resolved.commands[words.pop(0)]
    resolved.make_context(command, words, resilient_parsing=True, **main.context_settings)


def test_shown_commands_exist_with_their_options() -> None:
    commands = list(shown_commands())
    assert len(commands) > 50
    for document, command in commands:
        try:
            check_command(command)
        except (click.UsageError, KeyError) as error:
            pytest.fail(f"{document}: {command}: {error!r}")


def test_readme_is_short_and_shows_how_to_start() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_README_LINES
    lines = shell_lines(text)
    for command in ("./run demo", "./run test", "chalk-flask import", "chalk-flask serve"):
        assert any(line.startswith(command) for line in lines), command
    assert any("chalk-flask token create" in line for line in lines)


def test_run_tasks_in_documents_exist() -> None:
    tasks = set(re.findall(r"^    ([a-z-]+)\) ", (ROOT / "run").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        shown = {line.split()[1] for line in shell_lines(document.read_text(encoding="utf-8")) if line[:6] == "./run "}
        assert shown <= tasks, document.name


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_of_top_level_documents_exist(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8")):
        if not urlsplit(target).scheme:
            assert (ROOT / target.partition("#")[0]).exists(), target


def test_environment_variables_in_documents_are_settings() -> None:
    settings = {setting.variable for setting in SETTINGS}
    variables = settings | {f"{name}_FILE" for name in settings} | {"CHALK_CONFIG"}
    for document in DOCUMENTS:
        assert set(re.findall(r"\bCHALK_[A-Z_]+", document.read_text(encoding="utf-8"))) <= variables, document.name


@pytest.mark.parametrize("name", PAGES)
def test_derived_page_is_up_to_date(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text == PAGES[name](), "run: python -m docs.reference_pages"


def test_every_page_of_the_site_is_in_a_toctree() -> None:
    toctrees = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    for path in (ROOT / "docs").rglob("*.md"):
        name = path.relative_to(ROOT / "docs").with_suffix("").as_posix()
        assert name == "index" or re.search(rf"^{re.escape(name)}$|^{path.stem}$", toctrees, re.MULTILINE), name


def test_benchmark_figures_are_explained() -> None:
    page = Path(ROOT / "docs" / "explanation" / "performance.md").read_text(encoding="utf-8")
    assert [name for name in [*TARGETS, "sort", "growth"] if f"`{name}`" not in page] == []
