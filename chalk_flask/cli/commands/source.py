"""`chalk-flask source`: add, list, show, remove and sync upstream OneRoster providers."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from chalk_flask.cli.credentials import has_worker, open_credentials, settings_for_new, summary_text
from chalk_flask.cli.durations import DURATION
from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.options import (
    IMPORT_SETTINGS,
    SettingsCommand,
    as_json_option,
    check_tenant,
    open_configured_store,
    settings_from_options,
    settings_options,
    tenant_option,
)
from chalk_flask.cli.package_import import current_user, echo_report, exit_with, import_choices
from chalk_flask.cli.progress import progress_line
from chalk_flask.cli.table import format_table
from chalk_flask.times import format_timestamp

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.roster.tenant_imports import ImportChoices
    from chalk_flask.settings import Settings
    from chalk_flask.sources import Source, SourceStore
    from chalk_flask.sources.record import AuthKind

__all__ = ["source_group"]

# Equal to `sources.record.AuthKind`, whose import would slow down `--help`.
AUTH_KINDS: Final = ("oauth2", "oauth1", "bearer")
MAX_SECRET_FILE_BYTES: Final = 8192
NAME_WIDTH: Final = 14

_name_argument = click.argument("name", metavar="NAME")


@click.group("source", short_help="Pull the roster from another OneRoster service.")
def source_group() -> None:
    """Manage sources: OneRoster 1.1 services from which a tenant pulls its roster over REST.

    A sync reads the service and imports what it finds like a CSV package, with the same validation, quarantine, change
    thresholds and reports.
    """


@source_group.command(
    "add",
    short_help="Add a source with its secret.",
    epilog="Example: chalk-flask source add --name sis --url https://sis.example.org/ims/oneroster/v1p1 --client-id"
    " chalk --secret-file secret.txt",
)
@click.option("--name", required=True, help="Name of the source: letters, digits and . _ -")
@click.option("--url", required=True, help="API root of the service. It ends with /ims/oneroster/v1p1 in most cases.")
@click.option(
    "--auth",
    type=click.Choice(AUTH_KINDS),
    default="oauth2",
    show_default=True,
    help="oauth2: client credentials. oauth1: requests signed with HMAC-SHA256. bearer: a token.",
)
@click.option("--client-id", metavar="ID", help="Client id, or consumer key. Required except with a bearer token.")
@click.option(
    "--token-url", metavar="URL", help="Token endpoint of oauth2.  [default: /oauth/token on the host of --url]"
)
@click.option(
    "--secret-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="File with the secret or the bearer token; - is the standard input.  [default: ask for it]",
)
@click.option(
    "--full-days",
    metavar="DAYS",
    type=click.IntRange(1, 365),
    default=7,
    show_default=True,
    help="Read all records after this many days. Other syncs read what has changed.",
)
@click.option(
    "--every",
    metavar="DURATION",
    type=DURATION,
    help="Let the service sync at this interval: 1h, 24h, 7d. At least 5m.",
)
@click.option("--at", metavar="HH:MM", help="Let the service sync every day at this time (UTC).")
@tenant_option
@as_json_option
@settings_options("data")
def add(
    name: str,
    url: str,
    auth: AuthKind,
    client_id: str | None,
    token_url: str | None,
    secret_file: Path | None,
    full_days: int,
    every: timedelta | None,
    at: str | None,
    tenant: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Add a source. The secret is read from the standard input, from a file, or from a prompt.

    The store keeps it encrypted, with a key in the folder `data`. Nothing is sent before the first sync.

    With `--every` or `--at`, `chalk-flask serve` or `chalk-flask worker` syncs the source as a job. The first sync with
    `--every` begins at once. After a failure it tries again after 15 minutes, and then in growing intervals.
    """
    from chalk_flask.sources import SourceError, SourceRequest
    from chalk_flask.sources.schedule import check_schedule

    if (client_id is None) != (auth == "bearer"):
        raise click.UsageError("--client-id is required with oauth2 and oauth1, and cannot be combined with bearer")
    if token_url is not None and auth != "oauth2":
        raise click.UsageError("--token-url can be combined with oauth2 only")
    try:
        check_schedule(every, at)
    except SourceError as error:
        raise click.UsageError(str(error)) from error
    settings = settings_for_new(options, tenant)
    request = SourceRequest(
        name=name,
        url=url,
        auth=auth,
        secret=_read_secret(secret_file, auth),
        client_id=client_id,
        token_url=token_url,
        full_days=full_days,
        every=every,
        at=at,
    )
    with _source_store(settings) as sources:
        source = sources.add(tenant, request)
    text = f"Added the source {source.name}. Pull its roster with `chalk-flask source sync {source.name}`."
    echo_result(as_json, source.to_dict(), complete_hints(text))


@source_group.command(
    "list", short_help="List the sources of a tenant.", epilog="Example: chalk-flask source list --json"
)
@tenant_option
@as_json_option
@settings_options("data")
def list_sources(tenant: str, as_json: bool, **options: Any) -> None:
    """List the sources of a tenant by name, with the next sync, the last success and the last error.

    Warns if a source has a schedule, and no process runs it.
    """
    settings = settings_from_options(options)
    with open_configured_store(settings) as store:
        check_tenant(store, tenant)
        records = _make_store(store, settings).list(tenant)
    is_working = has_worker(settings, "jobs") if any(source.is_scheduled for source in records) else None
    data = {"sources": [_to_dict(source) for source in records], "worker": is_working}
    echo_result(as_json, data, complete_hints(_table(records)))
    if is_working is False:
        text = "No process syncs the sources that are due. Start `chalk-flask serve` or `chalk-flask worker`."
        click.echo(complete_hints(text), err=True)


@source_group.command(
    "show", short_help="Show a source and its last sync.", epilog="Example: chalk-flask source show sis"
)
@_name_argument
@tenant_option
@as_json_option
@settings_options()
def show(name: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Show a source with the result of its last sync. The secret cannot be shown."""
    with _source_store(settings_from_options(options)) as sources:
        source = sources.get(tenant, name)
    rows = [(label, value) for label, value in _details(source) if value is not None]
    echo_result(as_json, _to_dict(source), "\n".join(summary_text(rows, NAME_WIDTH)))


@source_group.command(
    "remove", short_help="Remove a source with its secret.", epilog="Example: chalk-flask source remove sis"
)
@_name_argument
@tenant_option
@as_json_option
@settings_options()
def remove(name: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Remove a source with its secret. The roster stays as it is."""
    with _source_store(settings_from_options(options)) as sources:
        source = sources.remove(tenant, name)
    echo_result(as_json, source.to_dict(), f"Removed the source {source.name}. The roster stays as it is.")


@source_group.command(
    "sync",
    cls=SettingsCommand,
    short_help="Pull the roster of a source.",
    epilog="Example: chalk-flask source sync sis --dry-run",
)
@_name_argument
@tenant_option
@click.option("--full", is_flag=True, help="Read all records, instead of what has changed since the last sync.")
@click.option(
    "--dry-run", is_flag=True, help="Read and validate the records, and report changes without applying them."
)
@import_choices
@click.option("--quiet", is_flag=True, help="Print only problems, on stderr, and show no progress.")
@as_json_option
@settings_options("data", *IMPORT_SETTINGS)
def sync(
    name: str,
    tenant: str,
    full: bool,
    dry_run: bool,
    choices: ImportChoices,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Pull the roster from a source, and import it. Output and exit codes are those of `import`.

    The first sync, one after --full-days, and one after a rejected sync read all records: records that are missing are
    marked as deleted. The other ones read the records that have changed since the last sync. If the service cannot be
    read completely, nothing is changed and the exit code is 1.
    """
    from chalk_flask.sources import SourceError, SyncOptions, sync_source

    if quiet and as_json:
        raise click.UsageError("--quiet and --json cannot be combined: --json prints the result")
    settings = settings_from_options(options)
    with open_configured_store(settings) as store, nullcontext() if quiet else progress_line() as progress:
        check_tenant(store, tenant)
        try:
            report = sync_source(
                store,
                settings,
                tenant,
                name,
                SyncOptions(full=full, dry_run=dry_run),
                requested_by=current_user(),
                choices=choices,
                progress=progress,
            )
        except SourceError as error:
            raise CommandError(str(error)) from error
    echo_report(report, as_json=as_json, quiet=quiet)
    exit_with(report)


def _read_secret(path: Path | None, auth: AuthKind) -> str:
    """Return the secret from a file, stdin or a prompt, without a line break at its end. Raises CommandError."""
    if path is not None and str(path) != "-":
        return _read_secret_file(path)
    label = "Bearer token" if auth == "bearer" else "Client secret"
    if path is None and sys.stdin is not None and sys.stdin.isatty():
        return str(click.prompt(label, hide_input=True, err=True))
    if sys.stdin is None:
        raise click.UsageError("a secret is required: give --secret-file, or a pipe with the secret on stdin")
    return _first_line(sys.stdin.buffer.read(MAX_SECRET_FILE_BYTES + 1))


def _read_secret_file(path: Path) -> str:
    with path.open("rb") as file:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CommandError(f"{path} is not a regular file: give the file with the secret, or - for stdin")
        return _first_line(file.read(MAX_SECRET_FILE_BYTES + 1))


def _first_line(content: bytes) -> str:
    """Return the text without the line break at its end. The store rejects another line break."""
    try:
        return content.decode("ascii").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise CommandError("the secret contains characters that are not ASCII: give the secret itself") from None


def _make_store(store: Backend, settings: Settings) -> SourceStore:
    from chalk_flask.auth.secrets import SecretCipher
    from chalk_flask.sources import SourceStore

    return SourceStore(store, SecretCipher(settings.data))


def _source_store(settings: Settings) -> AbstractContextManager[SourceStore]:
    from chalk_flask.sources import SourceError

    return open_credentials(settings, lambda store: _make_store(store, settings), SourceError)


def _table(records: Sequence[Source]) -> str:
    if not records:
        return "There are no sources. Add one with `chalk-flask source add`."
    rows = [
        (
            record.name,
            record.auth,
            _next_sync(record) or "-",
            record.last_success or "never",
            record.last_result or "-",
            record.last_error or "-",
        )
        for record in records
    ]
    return format_table(("NAME", "AUTH", "NEXT SYNC", "LAST SUCCESS", "RESULT", "LAST ERROR"), rows)


def _next_sync(source: Source) -> str | None:
    from chalk_flask.sources import next_sync

    return format_timestamp(next_sync(source))


def _to_dict(source: Source) -> dict[str, Any]:
    return source.to_dict() | {"nextSync": _next_sync(source)}


def _schedule(source: Source) -> str:
    if source.every_seconds is not None:
        return f"every {source.every_seconds // 60:,} minutes"
    return "none" if source.at is None else f"every day at {source.at} UTC"


def _details(source: Source) -> Sequence[tuple[str, object]]:
    return (
        ("name", source.name),
        ("url", source.url),
        ("auth", source.auth),
        ("client id", source.client_id),
        ("token url", source.token_url),
        ("full after", f"{source.full_days} days"),
        ("schedule", _schedule(source)),
        ("next sync", _next_sync(source)),
        ("created", source.created),
        ("last sync", source.last_started or "never"),
        ("last success", source.last_success or "never"),
        ("last full", source.last_full or "never"),
        ("last run", source.last_run),
        ("last result", source.last_result),
        ("last error", source.last_error),
        ("failed at", source.last_failure if source.failures else None),
        ("failures", source.failures or None),
    )
