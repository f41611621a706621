"""`chalk-flask demo`: load and serve the sample district."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.local_server import create_day_token, curl_command, open_service, run_server
from chalk_flask.cli.options import (
    DEFAULT_TENANT,
    SERVICE_SETTINGS,
    SettingsCommand,
    as_json_option,
    check_durable,
    open_configured_store,
    settings_from_options,
    settings_options,
)
from chalk_flask.cli.package_import import exit_with, run_import

if TYPE_CHECKING:
    from flask import Flask

    from backends import Backend
    from chalk_flask.console.pages.demo.receiver import DemoReceiver
    from chalk_flask.roster.imports.report import ImportReport
    from chalk_flask.services import Services
    from chalk_flask.settings import Settings

__all__ = ["demo_command"]

ADMINISTRATOR = "admin"
"""Sign-in name of the administrator of the demo."""


@click.command(
    "demo",
    cls=SettingsCommand,
    short_help="Load a sample district and serve it.",
    epilog="Example: chalk-flask demo --storage sqlite:///demo.db --port 9000",
)
@click.option("--no-serve", is_flag=True, help="Exit after the sample district is loaded and a token is created.")
@as_json_option
@settings_options(*(name for name in SERVICE_SETTINGS if name != "processes"))
def demo_command(no_serve: bool, as_json: bool, **options: Any) -> None:
    """Load a sample district, create a token with every scope of OneRoster for one day, and serve.

    Prints a curl command to paste once the service listens. A store with another roster is rejected and not changed.
    Also prints the URL of the admin console and a new password of the administrator `admin`, an operator. The console
    offers sample packages to import, and a receiver for webhooks. Each start revokes the token of the former one. Only
    warnings and errors are logged, unless the setting `log_level` has another value.

    With --json, the object is printed once the service listens, and contains its url and the token.
    """
    if no_serve:
        _prepare(settings_from_options(options), as_json)
    else:
        _serve(options, as_json)


def _serve(options: dict[str, Any], as_json: bool) -> None:
    with open_service(_with_demo_settings(options)) as (app, services):
        report = _load(services.store, services.settings)
        receiver = _register_receiver(app, services)

        def print_example(url: str) -> None:
            services.address.url = services.address.url or url
            if receiver is not None:
                receiver.listen_at(url)
            token = create_day_token(services.store, "demo")
            password = _create_administrator(services.store, services.settings)
            text = (
                f"{_loaded_text(services.settings, report)}Listening on {url}.\n\n{_console_text(password, url)}"
                f"Read the roster from another terminal (the token can read and write until {token['expires']}):\n\n"
                f"{curl_command(token['token'], url)}\n\nCtrl-C stops the server."
            )
            echo_result(as_json, _result(services.settings, report, token, password) | {"url": url}, text)

        run_server(app, services, print_example)


def _with_demo_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options, and allow webhooks to the receiver of the demo. The default log level is `warning`.

    Messages about the start would hide the password.
    """
    from chalk_flask.server import local_url

    settings = settings_from_options(options)
    host = urlsplit(local_url(settings.host, settings.port)).netloc
    receiver = host if settings.port else host.rpartition(":")[0]
    level = "warning" if settings.sources["log_level"] == "default" else settings.log_level
    allowed_hosts = ",".join(filter(None, [settings.webhook_allowed_hosts, receiver]))
    return {**options, "webhook_allowed_hosts": allowed_hosts, "log_level": level}


def _register_receiver(app: Flask, services: Services) -> DemoReceiver | None:
    """Add the receiver of webhooks. None without the admin console, which shows its URL."""
    if not services.settings.console:
        return None
    from chalk_flask.console.pages.demo.receiver import register_receiver

    return register_receiver(app, services)


def _prepare(settings: Settings, as_json: bool) -> None:
    check_durable(settings.storage, "omit --no-serve, so that it is served")
    with open_configured_store(settings, creates=True) as store:
        report = _load(store, settings)
        token = create_day_token(store, "demo")
        password = _create_administrator(store, settings)
    next_command = complete_hints("chalk-flask serve")
    text = (
        f"{_loaded_text(settings, report)}Token with every scope of OneRoster, valid until {token['expires']}:\n\n"
        f"  {token['token']}\n\n{_console_text(password)}Serve it:\n\n  {next_command}"
    )
    echo_result(as_json, _result(settings, report, token, password) | {"next": next_command}, text)


def _result(settings: Settings, report: ImportReport, token: dict[str, Any], password: str | None) -> dict[str, Any]:
    """Return the JSON object that `--json` prints, without its last member."""
    administrator = {"administrator": ADMINISTRATOR, "password": password} if password else {}
    return {"state": report.state, "storage": _storage_text(settings), **token, **administrator}


def _create_administrator(store: Backend, settings: Settings) -> str | None:
    """Create the administrator of the demo, or reset it, and return its new password. None without the admin console.

    It is an operator with the role owner and uses no one-time codes.
    """
    from chalk_flask.admins import AdministratorStore, generate_password
    from chalk_flask.auth.secrets import SecretCipher

    if not settings.console:
        return None
    administrators, password = AdministratorStore(store, SecretCipher(settings.data)), generate_password()
    existing = administrators.find(ADMINISTRATOR)
    if existing is not None and existing.is_operator and existing.role == "owner":
        administrators.reset_password(existing.id, password, disable_totp=True, by="demo")
        return password
    if existing is not None:
        administrators.delete(existing.id, by="demo")
    administrators.create(ADMINISTRATOR, "owner", None, password, by="demo")
    return password


def _console_text(password: str | None, url: str = "") -> str:
    """Return the paragraph which says how to sign in to the admin console; empty without a password."""
    if password is None:
        return ""
    address = f"  address   {url}/\n" if url else ""
    return (
        f"Sign in to the admin console{' in a browser' if url else ''}:\n\n"
        f"{address}  name      {ADMINISTRATOR}\n  password  {password}\n\n"
    )


def _load(store: Backend, settings: Settings) -> ImportReport:
    """Import the sample district. Raises CommandError if the store has another roster."""
    with _package() as folder:
        _check_roster(store, _district_id(folder))
        report = run_import(store, settings, folder, DEFAULT_TENANT, requested_by="demo")
    if report.state == "held":
        click.echo(complete_hints(report.to_text()), err=True)
        exit_with(report)
    if report.state == "refused":
        raise CommandError(f"the sample district cannot be imported with these settings:\n{report.to_text()}")
    return report


@contextmanager
def _package() -> Iterator[Path]:
    """Yield the folder of the sample district, a bulk package with data for every read endpoint.

    All people, addresses and numbers are invented: hosts end in `.example`, telephone numbers are 555-0100 to 555-0199.
    """
    from importlib.resources import as_file, files

    with as_file(files("chalk_flask") / "demo") as folder:
        yield folder


def _district_id(folder: Path) -> str:
    """Return the sourcedId of the sample district."""
    with (folder / "orgs.csv").open(encoding="utf-8", newline="") as rows:
        return next(row["sourcedId"] for row in csv.DictReader(rows) if row["type"] == "district")


def _check_roster(store: Backend, district_id: str) -> None:
    from backends import Compare
    from chalk_flask.oneroster.vocabularies import ACTIVE

    with store.read(DEFAULT_TENANT) as snapshot:
        orgs = set(snapshot.keys("orgs", Compare("status", "=", ACTIVE)))
    if orgs and district_id not in orgs:
        raise CommandError(
            "the store already has a roster, which the sample district would replace: give another store, for example"
            " --storage sqlite:///demo.db"
        )


def _loaded_text(settings: Settings, report: ImportReport) -> str:
    """Return the line which says where the sample district is."""
    location = _storage_text(settings)
    if report.state == "unchanged":
        return f"The sample district is already in {location}.\n"
    return f"Loaded the sample district into {location}.\n"


def _storage_text(settings: Settings) -> str:
    """Return the absolute path of the store, or its URL without passwords."""
    from chalk_flask.settings.storage_location import storage_location

    return storage_location(settings.storage)
