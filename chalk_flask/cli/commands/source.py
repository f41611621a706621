"""`chalk-flask source`: add, change, list, show, remove and sync sources."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from chalk_flask.cli.commands.source_formatting import source_details, source_table, source_to_dict
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

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.roster.tenant_imports import ImportChoices
    from chalk_flask.settings import Settings
    from chalk_flask.sources import Source, SourceChange, SourceStore
    from chalk_flask.sources.record import AuthKind

__all__ = ["source_group"]

# Equal to `sources.record.AuthKind`, whose import would slow down `--help`.
AUTH_KINDS: Final = ("oauth2", "oauth1", "bearer")
# Equal to those of `sources.limits`, for the same reason.
DEFAULT_PAGE_SIZE: Final = 1_000
MAX_PAGE_SIZE: Final = 10_000
MAX_SECRET_FILE_BYTES: Final = 8192
NAME_WIDTH: Final = 14
TOKEN_URL_DEFAULT: Final = "default"
NEW_STORE_HINT: Final = "create an empty one: start `chalk-flask serve`, and repeat this command while it runs"

Function = TypeVar("Function", bound=Callable[..., Any])

_name_argument = click.argument("name", metavar="NAME")


@contextmanager
def _parameter_errors() -> Iterator[None]:
    """Raise a SourceError of the block as BadParameter."""
    from chalk_flask.sources import SourceError
    from chalk_flask.sources.errors import CredentialsInUrlError

    try:
        yield
    except CredentialsInUrlError as error:
        raise click.BadParameter(f"{error} (--client-id and --secret-file)") from error
    except SourceError as error:
        raise click.BadParameter(str(error)) from error


def _time_of_day(ctx: click.Context, option: click.Parameter, text: str | None) -> str | None:
    """Return a time of day as it is stored, such as 02:30; None if the option is missing."""
    from chalk_flask.sources.schedule import parse_time_of_day

    with _parameter_errors():
        return None if text is None else parse_time_of_day(text)


def _interval(ctx: click.Context, option: click.Parameter, every: timedelta | None) -> timedelta | None:
    """Return an interval between two syncs. Raises BadParameter if it is too short."""
    from chalk_flask.sources.schedule import check_schedule

    with _parameter_errors():
        check_schedule(every, None)
    return every


def _new_name(ctx: click.Context, option: click.Parameter, name: str) -> str:
    """Return the name of a new source. Raises BadParameter."""
    from chalk_flask.sources.request import check_name

    with _parameter_errors():
        return check_name(name)


def _url(ctx: click.Context, option: click.Parameter, url: str | None) -> str | None:
    """Return a URL; None if the option is missing. Raises BadParameter, without the password of the URL."""
    from chalk_flask.sources.request import check_url

    with _parameter_errors():
        return None if url is None else check_url(url)


def _token_url(ctx: click.Context, option: click.Parameter, url: str | None) -> str | None:
    """Return the URL of a token endpoint, or the word for the default one. Raises BadParameter."""
    return url if url in ("", TOKEN_URL_DEFAULT) else _url(ctx, option, url)


def _reading_options(*, with_defaults: bool) -> Callable[[Function], Function]:
    """Return a decorator that adds the options of the reading and of the schedule."""
    full_days, page_size = (7, DEFAULT_PAGE_SIZE) if with_defaults else (None, None)
    options = (
        click.option(
            "--full-days",
            metavar="DAYS",
            type=click.IntRange(1, 365),
            default=full_days,
            show_default=with_defaults,
            help="Read all records after this many days. Other syncs read what has changed.",
        ),
        click.option(
            "--page-size",
            metavar="RECORDS",
            type=click.IntRange(1, MAX_PAGE_SIZE),
            default=page_size,
            show_default=with_defaults,
            help="Request this many records at once. Choose fewer if the provider takes too long for a page.",
        ),
        click.option(
            "--every",
            metavar="DURATION",
            type=DURATION,
            callback=_interval,
            help="Let the service sync at this interval: 1h, 24h, 7d. At least 5m.",
        ),
        click.option(
            "--at",
            metavar="HH:MM",
            callback=_time_of_day,
            help="Let the service sync every day at this time of 24 hours in UTC, such as 02:30.",
        ),
    )

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _check_one_schedule(every: timedelta | None, at: str | None, *others: bool) -> None:
    """Raise UsageError for more than one schedule."""
    if sum((every is not None, at is not None, *others)) > 1:
        names = "--every and --at" if not others else "--every, --at and --no-schedule"
        raise click.UsageError(f"{names} cannot be combined: a source has one schedule")


@click.group("source", short_help="Pull the roster from another OneRoster service.")
def source_group() -> None:
    """Manage sources: OneRoster 1.1 providers from which a tenant pulls its roster over REST.

    A sync reads the provider and imports what it finds like a CSV package, with the same validation, quarantine, change
    thresholds and reports.
    """


@source_group.command(
    "add",
    short_help="Add a source with its secret.",
    epilog="Example: chalk-flask source add --name sis --url https://sis.example.org/ims/oneroster/v1p1 --client-id"
    " chalk --secret-file secret.txt",
)
@click.option("--name", required=True, callback=_new_name, help="Name of the source: letters, digits and . _ -")
@click.option(
    "--url",
    required=True,
    callback=_url,
    help="API root of the provider. It ends with /ims/oneroster/v1p1 in most cases.",
)
@click.option(
    "--auth",
    type=click.Choice(AUTH_KINDS),
    default="oauth2",
    show_default=True,
    help="oauth2: client credentials. oauth1: requests signed with HMAC-SHA256. bearer: a token.",
)
@click.option("--client-id", metavar="ID", help="Client id, or consumer key. Required except with a bearer token.")
@click.option(
    "--token-url",
    metavar="URL",
    callback=_url,
    help="Token endpoint of oauth2.  [default: /oauth/token on the host of --url]",
)
@click.option(
    "--secret-file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    help="File with the secret or the bearer token; - is the standard input.  [default: ask for it]",
)
@_reading_options(with_defaults=True)
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
    page_size: int,
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
    from chalk_flask.sources import SourceRequest

    if (client_id is None) != (auth == "bearer"):
        raise click.UsageError("--client-id is required with oauth2 and oauth1, and cannot be combined with bearer")
    if token_url is not None and auth != "oauth2":
        raise click.UsageError("--token-url can be combined with oauth2 only")
    _check_one_schedule(every, at)
    settings = settings_for_new(options, tenant, NEW_STORE_HINT)
    request = SourceRequest(
        name=name,
        url=url,
        auth=auth,
        secret=_read_secret(secret_file, auth),
        client_id=client_id,
        token_url=token_url,
        full_days=full_days,
        page_size=page_size,
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
    data = {"sources": [source_to_dict(source) for source in records], "worker": is_working}
    echo_result(as_json, data, complete_hints(source_table(records)))
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
    rows = [(label, value) for label, value in source_details(source) if value is not None]
    echo_result(as_json, source_to_dict(source), "\n".join(summary_text(rows, NAME_WIDTH)))


@source_group.command(
    "set",
    short_help="Change a source: URL, credential, schedule.",
    epilog="Example: chalk-flask source set sis --at 03:15",
)
@_name_argument
@click.option("--url", callback=_url, help="API root of the provider.")
@click.option("--auth", type=click.Choice(AUTH_KINDS), help="Kind of credential.")
@click.option("--client-id", metavar="ID", help="Client id, or consumer key.")
@click.option(
    "--token-url",
    metavar="URL",
    callback=_token_url,
    help="Token endpoint of oauth2; or default, for /oauth/token on the host of the URL.",
)
@click.option(
    "--new-secret", is_flag=True, help="Replace the secret or the bearer token. It is asked for, or read from stdin."
)
@click.option(
    "--secret-file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    help="Replace the secret by that of a file; - is the standard input.",
)
@_reading_options(with_defaults=False)
@click.option("--no-schedule", is_flag=True, help="Sync only by `source sync`, or in the console.")
@tenant_option
@as_json_option
@settings_options("data")
def change(
    name: str,
    url: str | None,
    auth: AuthKind | None,
    client_id: str | None,
    token_url: str | None,
    new_secret: bool,
    secret_file: Path | None,
    full_days: int | None,
    page_size: int | None,
    every: timedelta | None,
    at: str | None,
    no_schedule: bool,
    tenant: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Change a source. Values without an option stay. The change applies from the next sync on.

    The secret is required again if another server would receive it, or with another --auth. After a change of the
    provider or of the client, the next sync reads all records.
    """
    from chalk_flask.sources import SourceChange

    _check_one_schedule(every, at, no_schedule)
    if token_url == "":  # most likely an unset variable of a script
        raise click.UsageError("--token-url must not be empty: give a URL, or default")
    change = SourceChange(
        url=url,
        auth=auth,
        client_id=client_id,
        token_url="" if token_url == TOKEN_URL_DEFAULT else token_url,
        full_days=full_days,
        page_size=page_size,
        every=every,
        at=at,
        unscheduled=no_schedule,
    )
    is_secret_given = new_secret or secret_file is not None
    if change == SourceChange() and not is_secret_given:
        raise click.UsageError(
            "a change is required: give --url, --auth, --client-id, --token-url, --new-secret, --secret-file,"
            " --full-days, --page-size, --every, --at or --no-schedule"
        )
    with _source_store(settings_from_options(options)) as sources:
        kind = auth or sources.get(tenant, name).auth
        secret = _read_secret(secret_file, kind) if is_secret_given else None
        source = _change(sources, tenant, name, replace(change, secret=secret), kind)
    text = f"The source {name} is changed. Try it with `chalk-flask source sync {name} --dry-run`."
    rows = [(label, value) for label, value in source_details(source) if value is not None]
    lines = [complete_hints(text), *summary_text(rows, NAME_WIDTH)]
    echo_result(as_json, source_to_dict(source), "\n".join(lines))


def _change(sources: SourceStore, tenant: str, name: str, change: SourceChange, kind: AuthKind) -> Source:
    """Change a source. Ask for the secret at a terminal if it is required again."""
    from chalk_flask.sources import SecretRequiredError

    try:
        return sources.change(tenant, name, change)
    except SecretRequiredError as error:
        if not _is_terminal():
            raise CommandError(f"{error}, with --new-secret or --secret-file") from error
        return sources.change(tenant, name, replace(change, secret=_read_secret(None, kind)))


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
    with open_configured_store(settings) as store, nullcontext() if quiet else progress_line() as on_progress:
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
                on_progress=on_progress,
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
    if path is None and _is_terminal():
        return str(click.prompt(label, hide_input=True, err=True))
    if sys.stdin is None:
        raise click.UsageError("a secret is required: give --secret-file, or a pipe with the secret on stdin")
    return _first_line(sys.stdin.buffer.read(MAX_SECRET_FILE_BYTES + 1))


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


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
