"""Reference pages that are derived from the code: `python -m docs.reference_pages` writes them again.

The command line comes from its help texts, the settings from their table, the API from the tables of routes, the files
of packages from the Schemas. The example of a settings file, `config/chalk.example.toml`, is written too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import click

from chalk_flask.api.admin import ADMIN_ROOT, ADMIN_ROUTES
from chalk_flask.api.errors import error_type_of
from chalk_flask.api.routes import READ_ROUTES, ROOTS, WRITE_ROUTES
from chalk_flask.cli import main
from chalk_flask.logs import LOG_EVENTS
from chalk_flask.oneroster.csv.tolerances import SYNONYM_WORDS, TOLERANCES
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.oneroster.vocabularies import NULL_WORDS
from chalk_flask.openapi.responses import STATUS_REASONS
from chalk_flask.settings import SETTINGS, SettingSection, example_toml
from docs.package_format import package_page

__all__ = ["PAGES", "api_page", "cli_page", "logs_page", "settings_page", "write_pages"]

FOLDER = Path(__file__).parent / "reference"
EXAMPLE_SETTINGS = Path(__file__).parents[1] / "config" / "chalk.example.toml"

_CLI_HEAD = """\
# Command line

`chalk-flask`, also `python -m chalk_flask`. This page contains the text of `--help` of each command. Commands with many
settings only name most of them: `--help-all` explains each, as [Settings](settings.md) does.

With `--json` a command prints exactly one JSON object on stdout. An error is an object too:
`{"error": "refused", "message": "..."}`. `error` is `refused`, `bad_settings`, `storage_failed`, `system_failed` or
`usage`. A rejected package is reported as the object that a successful import prints, with `"state": "refused"`.
Progress (on a terminal only), logs and messages go to stderr.
"""

_SETTINGS_HEAD = """\
# Settings

An option (`--port`) overrides an environment variable (`CHALK_PORT`), which overrides a key of the settings file
(`port`), which overrides the default. The variable is `CHALK_` and the name of the setting in capitals.
`CHALK_PORT_FILE` names a file that contains the value of `CHALK_PORT`. An unknown variable that starts with `CHALK_` is
ignored with a warning, and an unknown key of the settings file is an error. `--config` or `CHALK_CONFIG` names the
settings file, in TOML. `chalk-flask config show` prints the settings in force and their sources. Secrets such as
`oidc_client_secret` have no option, and their values are never shown.

`config/chalk.example.toml` in the repository lists all settings with their defaults.
"""

_API_HEAD = """\
# API

All operations of OneRoster 1.1 for rosters, resources and gradebook. Each path exists below both API roots, and below
`/sis` of each root. `/openapi.json` describes them for programs, see
[Generate a client](../how-to/generate-a-client.md).
"""

_API_READS = """
Send an API token or an access token as `Authorization: Bearer TOKEN`. Scopes start with
`https://purl.imsglobal.org/spec/or/v1p1/scope/`; `roster.readonly` includes `roster-core.readonly`.

## Parameters of collections

| Parameter | Example | Meaning |
|---|---|---|
| `limit`, `offset` | `limit=100&offset=200` | a page; `limit` is honored as requested |
| `sort`, `orderBy` | `sort=familyName&orderBy=desc` | order by a field; the order of equal values is stable |
| `filter` | `filter=role='teacher' AND status='active'` | one or two conditions; `=`, `!=`, `<`, `<=`, `>`, `>=`, `~` |
| `fields` | `fields=sourcedId,email` | only these fields |

Names are case-sensitive. An unknown field in `filter` is 400. In `sort` and `fields` it is no error, as the standard
requires. The response has all data, and a warning in `statusInfoSet` with the field as `imsx_description`. Other
parameters are ignored, so conditions such as `status='active'` belong in `filter`.

`X-Count` is the number of records in the response, `X-Total-Count` that of all matching records. `Link` has the URLs
of the first, previous, next and last page, as far as they fit into 7 KiB. Responses have an `ETag`; `If-None-Match`
gets 304 if nothing has changed. gzip is used if the client accepts it.

## Errors

| Status | `error` | `imsx_codeMinor` | Reason |
|---|---|---|---|
{errors}

Every body is JSON: `{{"error": "...", "message": "...", "statusInfoSet": [...]}}`. Decide by the status: texts of
`message` may change. An unknown field in `filter` is 400 with `invalid_filter_field` in both members, and an empty
`fields` with `invalid_blank_selection_field`. The token endpoint has errors of its own, see [Tokens](#tokens).

Only 429 and 503 are temporary: wait for the seconds of `Retry-After`, and send the request again. If the operator
limits request rates, responses have the headers `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`,
see [Rate limits](audit.md#rate-limits). [Limits](../explanation/limits.md) has the maximum of streams and connections.

## Read operations

| Operation | Path | Collection or object | Scope |
|---|---|---|---|
"""

_API_WRITES = """
## Gradebook writes

`PUT` takes and returns the object in its envelope. `DELETE` returns 204 without a body. `PUT` is also accepted without
the id in the path. With the status `tobedeleted` it deletes the record, and requires `gradebook.delete` too.

| Operation | Path | Object | Scope |
|---|---|---|---|
"""

_API_FEED = """
## Change feed

`GET /api/oneroster/v1p1/changes` returns what changed after a sequence number, each record once and as it is now.

| Parameter | Meaning |
|---|---|
| `since` | sequence number of your last response, or `latest`; 0 means after the first load |
| `limit` | number of changes in a response |
| `wait` | seconds to keep the request open until something changes, at most 30 |
| `include` | `records` (default) or `ids` |

A change has `sequence`, `type`, `entity`, `sourcedId` and `record`. `type` is the name of the entity with `.updated`,
for a new record too, or with `.deleted`: `lineItem.updated`. Names are those of a single object in the API; webhooks
write `line_item`. Each response has three more members: `sequence` is the number to continue from, `more` is true if
there are more changes already, and `next` is the URL of the next request. 410 means that the number is too old: read
everything once, then continue.

## Tokens

`POST /oauth/token`, and `POST token` below each API root: OAuth 2 client credentials (RFC 6749, section 4.4) with a
secret (HTTP Basic or form) or a signed assertion (RFC 7523). Errors follow RFC 6749, section 5.2.

## Imports

These operations require the scope `imports.write`. [Import every night](../how-to/nightly-import.md) shows them with
curl, and lists parameters and errors. The id is that of a job or of an import run.

| Operation | Path | Effect |
|---|---|---|
"""

_API_OBJECTS = """
## Objects

| Collection | Fields |
|---|---|
"""

_LOGS_HEAD = """\
# Log

`chalk-flask serve` and `demo` write their log to standard error, one line per message. Times are in UTC. Other commands
print warnings only. `log_level` is the minimum level, and `log_format` the form:

- `plain`: time, level, logger and message, then the members as `name=value`.
- `json`: one object per line, with `time`, `level`, `logger`, `message`, `process`, and the members.

Characters that could break a line are escaped. An exception is shown as its type and location, without its message,
because that may quote data.

## Request ids

Every response has the header `X-Request-ID`, and so has every message about the request, as the member `request_id`. A
client or a reverse proxy can choose the id: up to 128 letters, digits and `. _ : + / = -`, of which the first one is a
letter or a digit. Any other id is replaced by a new one. So are the credential of the request, and texts that begin
like tokens.

## Personal data

The log contains ids of credentials, tenants, runs and webhooks, and routes with placeholders, such as
`/schools/{id}/students`. It never contains a credential, a `sourcedId`, a parameter, a cell, or the name or e-mail
address of a person. Many districts use student numbers as `sourcedId`, so paths are not logged.

The only personal data are the network addresses in `request.rejected`, which show who guesses credentials. Delete the
log after as many days as your rules on such data allow.

The request log (`log_requests`) has a line for every request and no address. The [access log](audit.md) is another one:
it is a file, which lists what each credential has read.

## Events

Messages about these events have the member `event`:
"""

_TOLERANCES_HEAD = """\
# Lenient reading

`chalk-flask import --lenient`, or `chalk-flask tenant set NAME --lenient` for all imports of a tenant, accepts packages
that deviate from the standard in these ways. Each deviation leads to one warning per file, with the number of rows or
columns. Without the option, each of them rejects the package, except T-09 in a column of text, which is a warning.
"""

_TOLERANCES_WORDS = """
## Windows-1252

T-06 decodes a file only if no letter beyond ASCII in it is valid UTF-8. Otherwise its other bytes are broken UTF-8, for
example letters that were cut, and reject the package. Text also rejects the package if it looks like another encoding:
if it has bytes that Windows-1252 lacks, four letters beyond ASCII in a row, as Greek or Chinese text has, or small
letters of MacRoman.

## Words for an absent value

T-09 concerns these words, written like this: {words}. They stay where a cell must have a value, with a warning. Words
of letters also stay in the names of persons.
"""

_TOLERANCES_ROLES = """
## Synonyms of roles

Letter case, blanks, hyphens and underscores do not matter. An enrollment whose role is that of an assistant becomes one
of a teacher with `primary` false. The setting `import_role_map` maps other roles; it takes precedence over the table,
and also works without lenient reading.
"""


def cli_page() -> str:
    """Return the page with the help text of every command."""
    root = click.Context(main, info_name="chalk-flask", terminal_width=80, **main.context_settings)
    return "\n".join([_CLI_HEAD, *_command_sections(main, root)])


def settings_page() -> str:
    """Return the page with every setting, its default and its meaning."""
    lines = [_SETTINGS_HEAD]
    for section in SettingSection:
        settings = [setting for setting in SETTINGS if setting.info.section == section]
        rows = [(f"`{setting.name}`", _code(str(setting.default).lower()), setting.help) for setting in settings]
        lines += [f"## {section}\n", *_table(("Setting", "Default", "Meaning"), rows), ""]
    return "\n".join(lines)


def api_page() -> str:
    """Return the page with every operation, its path, envelope and scope."""
    roots = _table(
        ("Root", "Without `limit`"),
        [
            (f"`{root.path}`", f"a page of {root.default_limit}" if root.default_limit else "the whole collection")
            for root in ROOTS
        ],
    )
    reads = [
        (
            route.operation,
            f"`GET {route.path}`",
            f"`{route.resource_type.name if route.is_collection else route.resource_type.singular_name}`",
            _scope(route.scope),
        )
        for route in READ_ROUTES
    ]
    writes = [
        (
            write.operation,
            f"`{write.method} {write.path}`",
            f"`{write.resource_type.singular_name}`" if write.method == "PUT" else "none",
            _scope(write.scope),
        )
        for write in WRITE_ROUTES
    ]
    imports = [
        (route.operation, f"`{route.method} {ADMIN_ROOT}{route.path}`", route.description) for route in ADMIN_ROUTES
    ]
    objects = [(f"`{name}`", ", ".join(f"`{field}`" for field in kind.fields)) for name, kind in RESOURCES.items()]
    errors = _rows((str(status), *_error_names(status), reason) for status, reason in STATUS_REASONS.items())
    head = _API_READS.format(errors=errors)
    lines = [_API_HEAD, *roots, head + _rows(reads), _API_WRITES + _rows(writes), _API_FEED + _rows(imports)]
    lines += [_API_OBJECTS + _rows(objects), ""]
    return "\n".join(lines)


def tolerances_page() -> str:
    """Return the page with every tolerance of lenient reading, and the synonyms of roles."""
    rows = [
        (tolerance.id, f"`{tolerance.code}`", _sentence(tolerance.deviation), tolerance.effect)
        for tolerance in TOLERANCES
    ]
    synonyms = [
        (f"`{name}.csv`", f"`{role}`", ", ".join(f"`{word}`" for word, target in words.items() if target == role))
        for name, words in SYNONYM_WORDS.items()
        for role in dict.fromkeys(words.values())
    ]
    lines = [
        _TOLERANCES_HEAD,
        *_table(("Id", "Code of the warning", "Deviation", "Effect"), rows),
        _TOLERANCES_WORDS.format(words=", ".join(f"`{word}`" for word in sorted(NULL_WORDS))).rstrip("\n"),
        _TOLERANCES_ROLES,
        *_table(("File", "Role", "Synonyms"), synonyms),
        "",
    ]
    return "\n".join(lines)


def logs_page() -> str:
    """Return the reference of the log."""
    rows = [(f"`{name}`", description) for name, description in LOG_EVENTS.items()]
    return "\n".join([_LOGS_HEAD, *_table(("Event", "Meaning and members"), rows), ""])


PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "settings.md": settings_page,
    "api.md": api_page,
    "packages.md": package_page,
    "tolerances.md": tolerances_page,
    "logs.md": logs_page,
}


def write_pages() -> None:
    """Write every derived page into `docs/reference`, and the example of a settings file."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
    EXAMPLE_SETTINGS.write_text(example_toml(), encoding="utf-8")


def _command_sections(command: click.Command, context: click.Context) -> list[str]:
    level = "##" if context.parent is None or context.parent.parent is None else "###"
    sections = [f"{level} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"]
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            child = click.Context(subcommand, info_name=name, parent=context, terminal_width=80)
            sections += _command_sections(subcommand, child)
    return sections


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", _rows(rows)]


def _error_names(status: int) -> tuple[str, str]:
    """Return `error` and `imsx_codeMinor` of a status as code spans."""
    error_type = error_type_of(status)
    return f"`{error_type.error}`", f"`{error_type.code_minor}`"


def _rows(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _sentence(text: str) -> str:
    """Return a phrase with a capital, for a cell of a table. A phrase that begins with a code span stays as it is."""
    return text[:1].upper() + text[1:]


def _code(text: str) -> str:
    return f"`{text}`" if text else "empty"


def _scope(uri: str) -> str:
    return f"`{uri.rpartition('/')[2]}`"


if __name__ == "__main__":
    write_pages()
