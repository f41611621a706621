"""What the README and the pages of docs/ show is there, and does what they say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

from bench.figures import BARS
from chalk_flask import create_app
from chalk_flask.cli import main
from chalk_flask.cli.package_import import load_package
from chalk_flask.settings import SETTINGS
from tests.conftest import services_of
from tests.support.api_client import Consumer, items
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
# docs/cli.md is made from the commands themselves.
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "cli.md")]


def shell_lines(text: str) -> list[str]:
    """The lines of shell blocks, and the commands within sentences."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [*"\n".join(blocks).splitlines(), *re.findall(r"`((?:chalk-flask|\./run) [^`]+)`", text)]


def commands(text: str) -> list[str]:
    """The `chalk-flask` commands that a page shows, without what they are piped into."""
    return [found for line in shell_lines(text) for found in re.findall(r"(?:^|[(=])(chalk-flask\b[^|)]*)", line)]


SHOWN = [(page.name, command) for page in PAGES for command in commands(page.read_text(encoding="utf-8"))]


def test_the_readme_shows_how_to_feed_and_start_the_service() -> None:
    shown = [command for page, command in SHOWN if page == "README.md"]
    for needed in ("import", "token create", "serve", "check", "config show"):
        assert any(command.startswith(f"chalk-flask {needed}") for command in shown), needed


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_a_command_that_is_shown_exists_and_takes_its_options(page: str, command: str) -> None:
    words = shlex.split(command)[1:]
    found: click.Command = main
    while isinstance(found, click.Group) and words:
        assert words[0] in found.commands, f"{page}: {command}"
        found = found.commands[words.pop(0)]
    found.make_context(command, words, resilient_parsing=True)  # raises on an unknown option


def leaves(command: click.Command, path: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from leaves(each, f"{path} {name}")
    else:
        yield path


@pytest.mark.parametrize("path", list(leaves(main, "chalk-flask")))
def test_every_command_is_in_the_pages(path: str) -> None:
    assert re.search(rf"^##+ {path}$", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"chalk-flask {path.split()[1]}" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_that_is_linked_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not urlsplit(target).scheme:
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_two_commands_to_begin_with_are_tasks_of_run() -> None:
    tasks = re.findall(r"^    ([a-z]+)\) ", (ROOT / "run").read_text(encoding="utf-8"), re.MULTILINE)
    shown = {line.split()[1] for line in shell_lines(README) if line.startswith("./run ")}
    assert {"demo", "test"} <= shown <= set(tasks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_variable_that_is_named_is_a_setting(page: Path) -> None:
    known = {setting.variable for setting in SETTINGS} | {"CHALK_CONFIG", "CHALK_X", "CHALK_X_FILE", "CHALK_"}
    assert set(re.findall(r"\bCHALK_[A-Z_]*", page.read_text(encoding="utf-8"))) <= known


def test_the_settings_of_the_readme_are_settings_with_their_defaults() -> None:
    table = README.partition("| Setting | Default | |")[2].partition("\n\n")[0]
    known = {setting.name: setting.default for setting in SETTINGS}
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    assert len(rows) > 5
    for names, defaults in rows:
        for name, default in zip(re.findall("`(.+?)`", names), re.findall("`(.+?)`", defaults) or [""], strict=True):
            assert str(known[name]).lower() == default


def asked() -> Iterator[tuple[str, str]]:
    """Path and query of each example of the API."""
    for line in shell_lines(README):
        if line.startswith("get "):
            words = shlex.split(line)[1:]
            yield words[0].removeprefix("$ROOT"), "&".join(words[at + 1] for at in range(1, len(words), 2))


def test_every_example_of_the_api_finds_something_in_the_sample_district() -> None:
    app = create_app(storage="memory:")
    chalk = services_of(app)
    load_package(chalk.store, chalk.settings, ROOT / "chalk_flask" / "demo", "default")
    consumer = Consumer(app)
    examples = list(asked())
    assert len(examples) > 4
    for path, query in examples:
        answer = consumer.get(f"{path}?{query}")
        assert answer.status_code == 200, answer.text
        assert items(answer), f"{path}?{query}"
    chalk.store.close()


def test_every_figure_of_the_benchmark_is_explained() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert [name for name in [*BARS, "sort", "growth"] if f"`{name}`" not in page] == []
