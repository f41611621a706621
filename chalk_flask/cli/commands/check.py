"""`chalk-flask check`."""

from __future__ import annotations

from typing import Any

import click

from chalk_flask.cli.errors import emit
from chalk_flask.cli.options import (
    as_json_option,
    check_tenant_of,
    opened,
    settings_of,
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
    from chalk_flask.roster.verify.checker import check_store, nothing_checked

    settings = settings_of(given)
    check_tenant_of(settings, tenant)
    if store_exists(settings.storage):
        with opened(settings) as store:
            checked = check_store(store, tenant)
    else:
        checked = nothing_checked()
    emit(as_json, checked.as_dict(), checked.as_text())
    if not checked.ok:
        raise click.exceptions.Exit(1)
