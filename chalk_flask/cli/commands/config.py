"""`chalk-flask config`: show the settings in force."""

from __future__ import annotations

from typing import Any

import click

from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.options import SettingsCommand, as_json_option, settings_from_options, settings_options
from chalk_flask.cli.table import format_table
from chalk_flask.settings import SETTINGS, describe_settings

__all__ = ["config_group"]


@click.group("config", short_help="Show the settings.")
def config_group() -> None:
    """Show the settings."""


@config_group.command(
    "show",
    cls=SettingsCommand,
    short_help="Show each setting with its value and its source.",
    epilog="Example: CHALK_PORT=9000 chalk-flask config show",
)
@as_json_option
@settings_options(*(setting.name for setting in SETTINGS))
def show(as_json: bool, **options: Any) -> None:
    """Show each setting with its value and its source: argument, environment, file or default.

    Secrets and passwords are replaced by ***.
    """
    rows = describe_settings(settings_from_options(options))
    cells = [(row.name, _text(row.value), row.source) for row in rows]
    echo_result(
        as_json, {"settings": [row._asdict() for row in rows]}, format_table(("SETTING", "VALUE", "SOURCE"), cells)
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'
