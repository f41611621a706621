"""`chalk-flask serve`: serve the roster over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.background.allocator import limit_arenas
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.local_server import (
    check_key_files,
    create_day_token,
    curl_command,
    echo_status,
    first_administrator_text,
    open_service,
    run_server,
)
from chalk_flask.cli.options import (
    DEFAULT_TENANT,
    IMPORT_SETTINGS,
    SERVICE_SETTINGS,
    SettingsCommand,
    check_durable,
    open_configured_store,
    require_store,
    settings_from_options,
    settings_options,
)
from chalk_flask.cli.package_import import exit_with, run_import
from chalk_flask.cli.supervised_server import check_processes, prepare_metrics, run_assigned, run_supervisor
from chalk_flask.settings import Settings, process_count

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.services import Services

__all__ = ["serve_command"]


@click.command(
    "serve",
    cls=SettingsCommand,
    short_help="Serve the roster over HTTP.",
    epilog="Example: chalk-flask serve --storage memory: --import district.zip --port 9000",
)
@click.option(
    "--import",
    "package",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Import this package (ZIP file or folder) first. If it is rejected or held, the service does not start.",
)
@click.option(
    "--no-worker",
    is_flag=True,
    help="Do not deliver webhooks or run jobs of the console in this process: `chalk-flask worker` does it.",
)
@settings_options(*SERVICE_SETTINGS, *IMPORT_SETTINGS)
def serve_command(package: Path | None, no_worker: bool, **options: Any) -> None:
    """Serve the roster over HTTP until SIGTERM or Ctrl-C. Requests in progress are completed first.

    A store that is not durable, such as memory:, gets a token for one day, which is shown. No other command can open
    the store.

    If the store has no administrator, a link is shown with which the first one is created in the admin console. It can
    be used once, within 24 hours. A JSON log and the journal of systemd get the command that creates an administrator
    instead. So a store that does not exist is created, unless its folder does not exist, or without the admin console.
    It is also created for the package of --import.

    A SQLite store is served by one process for each core, all on one address. A dead one is replaced. SIGHUP reads the
    settings again and replaces all processes, without refusing a request. With --processes 1, one process serves.
    """
    limit_arenas()
    if (assignment := click.get_current_context().obj) is not None:  # this is one of several processes
        run_assigned(options, assignment, with_worker=not no_worker)
        return
    settings = settings_from_options(options)
    check_processes(settings)
    if no_worker:
        check_durable(settings.storage, "only this process can work on it, so omit --no-worker")
    _check_store(settings, has_package=package is not None)
    if process_count(settings) > 1:
        _supervise(settings, options, package)
        return
    with open_service(options, with_worker=not no_worker) as (app, services):
        if package is not None:
            _import_first(services.store, services.settings, package)
        run_server(app, services, lambda url: _print_url(services, url))


def _supervise(settings: Settings, options: dict[str, Any], package: Path | None) -> None:
    """Serve with several processes. This one creates the store and imports the package, so that no two of them do."""
    from chalk_flask.admins import SetupLink

    with open_configured_store(settings, creates=True) as store:
        if package is not None:
            _import_first(store, settings, package)
        check_key_files(Path(settings.data))
        folder = prepare_metrics(settings)

    def on_ready(url: str) -> None:
        echo_status(settings, f"Listening on {url} ({process_count(settings)} processes, Ctrl-C to stop)")
        with open_configured_store(settings) as store:
            if text := first_administrator_text(store, settings, SetupLink(store), url):
                echo_status(settings, text)

    run_supervisor(settings, options, folder, on_ready)


def _import_first(store: Backend, settings: Settings, package: Path) -> None:
    report = run_import(store, settings, package, DEFAULT_TENANT, requested_by="serve")
    echo_status(settings, complete_hints(report.to_text()))
    exit_with(report)


def _check_store(settings: Settings, *, has_package: bool) -> None:
    """Raise CommandError if there is no store, unless this command can create it.

    It does that for a package, and for the admin console, which has a link for the first administrator. A folder is
    not created for an empty store: its path is more likely mistyped.
    """
    from backends import backend_class, store_exists
    from chalk_flask.settings.storage_location import storage_location

    if has_package or not backend_class(settings.storage).durable or store_exists(settings.storage):
        return
    location = storage_location(settings.storage)
    if not settings.console or not Path(location).parent.is_dir():
        require_store(settings)
    echo_status(settings, f"There is no store at {location}: an empty one is created.")


def _print_url(services: Services, url: str) -> None:
    """Print the URL of the service, and what only this command can show.

    This is a token for a store that `token create` cannot open, and the link for the first administrator.
    """
    echo_status(services.settings, f"Listening on {url} (Ctrl-C to stop)")
    if text := first_administrator_text(services.store, services.settings, services.setup_link, url):
        echo_status(services.settings, text)
    if not services.store.durable:
        token = create_day_token(services.store, "serve")
        command = curl_command(token["token"], url)
        echo_status(services.settings, f"Try this (valid until {token['expires']}):\n\n{command}\n")
