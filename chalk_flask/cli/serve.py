"""`chalk-flask serve`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.edge import Refused
from chalk_flask.cli.importing import load_package
from chalk_flask.cli.options import DEFAULT_TENANT, IMPORTING, SERVING, settings_options

if TYPE_CHECKING:
    from flask import Flask

    from chalk_flask.chalk import Chalk

__all__ = ["run", "serve_command", "service"]

LOG_LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"


@click.command(
    "serve",
    short_help="Serve the roster over HTTP.",
    epilog="Example: chalk-flask serve --storage memory: --import district.zip --port 9000",
)
@click.option(
    "--import",
    "package",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Load this package first, a ZIP file or a folder; when it is refused, nothing is served.",
)
@settings_options(*SERVING, *IMPORTING)
def serve_command(package: Path | None, **given: Any) -> None:
    """Serve the roster over HTTP until SIGTERM or Ctrl-C; requests in flight are answered first."""
    with service(given) as (app, chalk):
        if package is not None:
            report = load_package(chalk.store, chalk.settings, package, DEFAULT_TENANT)
            click.echo(report.as_text(), err=True)
            if report.state == "refused":
                raise click.exceptions.Exit(1)
        run(app, chalk, lambda url: click.echo(f"Listening on {url} (Ctrl-C to stop)", err=True))


@contextmanager
def service(given: dict[str, Any]) -> Iterator[tuple[Flask, Chalk]]:
    """The application with these settings, its log on stderr and its store open meanwhile."""
    from chalk_flask import create_app

    app = create_app(**given)
    chalk: Chalk = app.extensions["chalk"]
    logging.basicConfig(stream=sys.stderr, level=chalk.settings.log_level.upper(), format=LOG_LINE)
    with chalk.store:
        yield app, chalk


def run(app: Flask, chalk: Chalk, ready: Callable[[str], None]) -> None:
    """Serve until a signal comes; `ready` is told the address once connections are accepted. Raises Refused."""
    from chalk_flask.server import CannotListen, serve

    try:
        serve(app, chalk.settings, ready)
    except CannotListen as error:
        raise Refused(str(error)) from error
