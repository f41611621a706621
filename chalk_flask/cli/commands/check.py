"""`chalk-flask check`."""

from __future__ import annotations

from typing import Any

import click

from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.options import (
    as_json_option,
    check_configured_tenant,
    open_configured_store,
    settings_from_options,
    settings_options,
    tenant_option,
)

__all__ = ["check_command"]


@click.command(
    "check",
    short_help="Verify a store.",
    epilog="Example: chalk-flask check --storage sqlite:///chalk.db --json",
)
@tenant_option
@as_json_option
@settings_options()
def check_command(tenant: str, as_json: bool, **given: Any) -> None:
    """Verify a store: its files, the form of every record, references, derived lists and counts.

    Prints how many active records there are and two digests, which are equal for equal rosters whatever stores them:
    digest leaves out the moments of the last change, state does not. The exit code is 1 when something is wrong. A
    store that does not exist yet is sound, and is not created.
    """
    from backends import store_exists
    from chalk_flask.roster.verify.checker import check_store, empty_report

    settings = settings_from_options(given)
    check_configured_tenant(settings, tenant)
    if store_exists(settings.storage):
        with open_configured_store(settings) as store:
            checked = check_store(store, tenant)
    else:
        checked = empty_report()
    echo_result(as_json, checked.to_dict(), checked.to_text())
    if not checked.ok:
        raise click.exceptions.Exit(1)
