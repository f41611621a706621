"""`chalk-flask serve`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.commands.import_ import exit_with, load_package
from chalk_flask.cli.errors import CommandError
from chalk_flask.cli.options import DEFAULT_TENANT, IMPORT_SETTINGS, SERVICE_SETTINGS, settings_options

if TYPE_CHECKING:
    from flask import Flask

    from backends import Backend
    from chalk_flask.services import Services

__all__ = ["curl_line", "run", "serve_command", "service", "token_for_a_day"]

TOKEN_LIFETIME = timedelta(days=1)
PATH = "/ims/oneroster/v1p1/users?limit=2"
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
    help="Load this package first, a ZIP file or a folder; when it is refused or held, nothing is served.",
)
@settings_options(*SERVICE_SETTINGS, *IMPORT_SETTINGS)
def serve_command(package: Path | None, **given: Any) -> None:
    """Serve the roster over HTTP until SIGTERM or Ctrl-C; requests in flight are answered first.

    With a store that ends with the process, such as memory:, a token for a day is made and shown: no other command
    could make one.
    """
    with service(given) as (app, chalk):
        if package is not None:
            report = load_package(chalk.store, chalk.settings, package, DEFAULT_TENANT, who="serve")
            click.echo(report.to_text(), err=True)
            exit_with(report)
        run(app, chalk, lambda url: _tell(chalk.store, url))


def _tell(store: Backend, url: str) -> None:
    """Say where the service listens; and a token for a store that `token create` cannot reach from outside."""
    click.echo(f"Listening on {url} (Ctrl-C to stop)", err=True)
    if not store.durable:
        made = token_for_a_day(store, "serve")
        click.echo(f"This works until {made['expires']}:\n\n{curl_line(made['token'], url)}\n", err=True)


def token_for_a_day(store: Backend, label: str) -> dict[str, Any]:
    """A new token for everything: itself, its id and when it expires."""
    from chalk_flask.auth.tokens.store import TokenStore
    from chalk_flask.permissions.scopes import ALL

    token, record = TokenStore(store).create(label, ALL, DEFAULT_TENANT, datetime.now(UTC) + TOKEN_LIFETIME)
    return {"token": token, "id": record.id, "expires": record.to_dict()["expires"]}


def curl_line(token: str, url: str) -> str:
    """A request that a person can paste."""
    return f'  curl -H "Authorization: Bearer {token}" "{url}{PATH}"'


@contextmanager
def service(given: dict[str, Any]) -> Iterator[tuple[Flask, Services]]:
    """The application with these settings, its log on stderr; its store is open and webhooks are delivered
    meanwhile."""
    from chalk_flask import create_app

    app = create_app(**given)
    chalk: Services = app.extensions["chalk"]
    logging.basicConfig(stream=sys.stderr, level=chalk.settings.log_level.upper(), format=LOG_LINE)
    with chalk.store, closing(chalk.login_log), closing(chalk.access_log), closing(chalk.worker):
        if chalk.store.durable:
            chalk.access_log.start()
        chalk.worker.start()
        yield app, chalk


def run(app: Flask, chalk: Services, ready: Callable[[str], None]) -> None:
    """Serve until a signal comes; `ready` is told the address once connections are accepted. Raises Refused."""
    from chalk_flask.server import BindError, serve

    try:
        serve(app, chalk.settings, ready)
    except BindError as error:
        raise CommandError(str(error)) from error
