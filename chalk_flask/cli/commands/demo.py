"""`chalk-flask demo`."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.commands.import_ import exit_with, load_package
from chalk_flask.cli.commands.serve import curl_line, run, service, token_for_a_day
from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.options import (
    DEFAULT_TENANT,
    SERVICE_SETTINGS,
    as_json_option,
    open_configured_store,
    settings_from_options,
    settings_options,
)
from chalk_flask.settings import describe_settings

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.roster.imports.report import ImportReport
    from chalk_flask.settings import Settings

__all__ = ["demo_command"]


@click.command(
    "demo",
    short_help="Load a sample district and serve it.",
    epilog="Example: chalk-flask demo --storage sqlite:///demo.db --port 9000",
)
@click.option("--no-serve", is_flag=True, help="Stop once the sample district is loaded and a token is made.")
@as_json_option
@settings_options(*SERVICE_SETTINGS)
def demo_command(no_serve: bool, as_json: bool, **given: Any) -> None:
    """Load a sample district, create a token that reads everything for a day, and serve.

    Once the service listens, a curl line is printed that works as it stands. A store that holds another roster is
    refused and stays as it is.
    """
    if as_json and not no_serve:
        raise click.UsageError("--json prints one object and ends: use it with --no-serve")
    if no_serve:
        _prepare(settings_from_options(given), as_json, given["config"])
    else:
        _serve(given)


def _serve(given: dict[str, Any]) -> None:
    with service(given) as (app, chalk):
        report = _load(chalk.store, chalk.settings)

        def ready(url: str) -> None:
            made = token_for_a_day(chalk.store, "demo")
            where = _shown(chalk.settings)
            click.echo(
                f"The sample district is in {where} ({report.state}); {url} serves it.\n"
                f"This works until {made['expires']}, in another terminal:\n\n"
                f"{curl_line(made['token'], url)}\n\nCtrl-C stops it."
            )

        run(app, chalk, ready)


def _prepare(settings: Settings, as_json: bool, config: str | None) -> None:
    from backends import backend_class

    if not backend_class(settings.storage).durable:
        raise CommandError(
            f"{settings.storage} keeps nothing once this command ends: leave --no-serve out, so that it serves"
        )
    with open_configured_store(settings) as store:
        report = _load(store, settings)
        made = token_for_a_day(store, "demo")
    follow = _next(settings, config)
    text = (
        f"The sample district is in {_shown(settings)} ({report.state}).\n"
        f"This token reads everything until {made['expires']}:\n\n  {made['token']}\n\nNow serve it:\n\n  {follow}"
    )
    echo_result(as_json, {"state": report.state, "storage": _shown(settings), **made, "next": follow}, text)


def _load(store: Backend, settings: Settings) -> ImportReport:
    """Import the sample district. Raises Refused when the store holds another one."""
    with _package() as folder:
        _check_vacant(store, _district(folder))
        report = load_package(store, settings, folder, DEFAULT_TENANT, who="demo")
    if report.state == "held":
        click.echo(report.to_text(), err=True)
        exit_with(report)
    if report.state == "refused":
        raise CommandError(f"the sample district does not load with these settings:\n{report.to_text()}")
    return report


@contextmanager
def _package() -> Iterator[Path]:
    from importlib.resources import as_file, files

    with as_file(files("chalk_flask.demo")) as folder:
        yield folder


def _district(folder: Path) -> str:
    """The sourcedId of the sample district."""
    with (folder / "orgs.csv").open(encoding="utf-8", newline="") as rows:
        return next(row["sourcedId"] for row in csv.DictReader(rows) if row["type"] == "district")


def _check_vacant(store: Backend, district: str) -> None:
    from backends import Compare
    from chalk_flask.oneroster.vocabularies import ACTIVE

    with store.read(DEFAULT_TENANT) as snapshot:
        orgs = set(snapshot.keys("orgs", Compare("status", "=", ACTIVE)))
    if orgs and district not in orgs:
        raise CommandError(
            "the store holds a roster already, which the sample district would replace: choose another store with"
            " --storage, as in --storage sqlite:///demo.db"
        )


def _shown(settings: Settings) -> str:
    """The storage URL as it may be printed."""
    return str(next(row.value for row in describe_settings(settings) if row.name == "storage"))


def _next(settings: Settings, config: str | None) -> str:
    """The command that serves the same store."""
    words = ["chalk-flask", "serve", *(["--config", config] if config else [])]
    if settings.sources.get("storage") == "argument":
        words += ["--storage", _shown(settings)]
    return shlex.join(words)
