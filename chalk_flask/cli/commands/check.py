"""`chalk-flask check`: verify a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.options import (
    as_json_option,
    check_configured_tenant,
    open_configured_store,
    require_store,
    settings_from_options,
    settings_options,
    tenant_option,
)

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.roster.integrity.checker import IntegrityReport

__all__ = ["check_command"]

LOCK_TIMEOUT_SECONDS = 10.0
"""Maximum time to wait for another writer before the result is not stored."""


@click.command(
    "check",
    short_help="Verify a store.",
    epilog="Example: chalk-flask check --storage sqlite:///chalk.db --json",
)
@tenant_option
@click.option(
    "--repair",
    is_flag=True,
    help="First rebuild what the records determine: missing tables, columns, indexes, values and current.json files."
    " Stop the service and copy the store before.",
)
@as_json_option
@settings_options()
def check_command(tenant: str, repair: bool, as_json: bool, **options: Any) -> None:
    """Verify a store: its files, the form of every record, comparison keys, references, derived lists and counts.

    Prints the number of active records and two digests that depend only on the roster, not on the backend. `digest`
    ignores dateLastModified, `state` includes it. The exit code is 1 if there is a problem or no
    store. The page About of the console shows the time and result of the last check. A store that is read-only or
    damaged is checked all the same, but the result is not stored.
    """
    from backends import repair_store
    from chalk_flask.roster.integrity.checker import check_store
    from chalk_flask.storage import COLLECTIONS

    settings = settings_from_options(options)
    require_store(settings)
    if repair:
        for action in repair_store(settings.storage, COLLECTIONS) or ["nothing to repair"]:
            click.echo(action, err=True)
    check_configured_tenant(settings, tenant)
    with open_configured_store(settings) as store:
        report = check_store(store, tenant)
        _record(store, tenant, report)
    echo_result(as_json, report.to_dict(), report.to_text())
    if not report.ok:
        raise click.exceptions.Exit(1)


def _record(store: Backend, tenant: str, report: IntegrityReport) -> None:
    """Store the result in the audit log of the tenant. If that is impossible, stderr says why."""
    from backends import StorageError
    from chalk_flask.audit.events import record_event
    from chalk_flask.cli.package_import import current_user
    from chalk_flask.tenants.store import find_audit_tenant

    if report.is_damaged:  # a write could do more damage
        click.echo("The result is not stored, because the store is damaged.", err=True)
        return
    problems, by = len(report.problems), current_user()
    try:
        with store.write(find_audit_tenant(store, tenant), wait=LOCK_TIMEOUT_SECONDS) as transaction:
            record_event(transaction, tenant, "store.checked", problems=problems, digest=report.digest, by=by)
    except StorageError as error:
        click.echo(f"The result is not stored, because the store cannot be written: {error}", err=True)
