"""`chalk-flask worker`: deliver webhooks and mail, and run jobs, without serving requests."""

from __future__ import annotations

from typing import Any

import click

from chalk_flask.cli.local_server import open_worker, wait_for_signal
from chalk_flask.cli.options import (
    IMPORT_SETTINGS,
    MAIL_SETTINGS,
    SettingsCommand,
    check_durable,
    require_store,
    settings_from_options,
    settings_options,
)

__all__ = ["worker_command"]


@click.command(
    "worker",
    cls=SettingsCommand,
    short_help="Deliver webhooks and mail, and run jobs, without serving.",
    epilog="Example: chalk-flask worker --storage sqlite:///district.db",
)
@settings_options(
    *("data", "public_url", "webhook_allowed_hosts", "overdue_hours", *MAIL_SETTINGS, "log_level", "log_format"),
    *IMPORT_SETTINGS,
)
def worker_command(**options: Any) -> None:
    """Deliver webhooks and mail, run jobs and sync sources until SIGTERM or Ctrl-C, without serving requests.

    `chalk-flask serve` does the same beside serving, unless it has --no-worker. Start this command if another WSGI
    server serves the application. Only one process of a store works at a time; further ones wait and take over.
    """
    settings = settings_from_options(options)
    check_durable(settings.storage, "only the process that serves it can work on it")
    require_store(settings)
    with open_worker(options) as services:
        wait_for_signal(services)
