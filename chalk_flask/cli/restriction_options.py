"""Options for the access restrictions of a token, client or issuer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

import click

if TYPE_CHECKING:
    from chalk_flask.permissions.restrictions import AccessRestrictions
    from chalk_flask.settings import Settings

__all__ = ["describe_restrictions", "restriction_options", "warn_about_unknown"]

Command: TypeAlias = Callable[..., Any]

MAX_WIDTH = 60
"""Characters of the restrictions in a table."""

_REPEATABLE = "Can be repeated."
_OPTIONS = (
    ("--restrict-org", "orgs", "ID", f"Show only this org, its records and the orgs above it. {_REPEATABLE}"),
    ("--restrict-grade", "grades", "GRADE", f"Show only students of this grade. {_REPEATABLE}"),
    ("--restrict-class", "classes", "ID", f"Show only this class and the people enrolled in it. {_REPEATABLE}"),
    ("--deny", "denied", "COLLECTION", f"Hide a collection, such as results or users. {_REPEATABLE}"),
    (
        "--redact",
        "redacted",
        "FIELD",
        f"Hide a field, such as email or metadata.*, and the fields that repeat it: parent and children hide each"
        f" other, title hides courseCode. {_REPEATABLE}",
    ),
)
_HIDDEN_ALIASES = (("--limit-org", "orgs"), ("--limit-grade", "grades"), ("--limit-class", "classes"))
"""Former names of the options. They still work but are hidden from the help."""


def restriction_options(command: Command) -> Command:
    """Add the options of access restrictions; the command receives them as `restrictions`.

    The command has the option --scope too, whose scopes must allow restrictions.
    """

    @wraps(command)
    def with_restrictions(*args: Any, **kwargs: Any) -> Any:
        values = {name: kwargs.pop(name) for _, name, _, _ in _OPTIONS}
        for _, name in _HIDDEN_ALIASES:
            values[name] += kwargs.pop(f"{name}_alias")
        return command(*args, restrictions=_parse(values, kwargs["scopes"]), **kwargs)

    for option, name in _HIDDEN_ALIASES:
        with_restrictions = click.option(option, f"{name}_alias", multiple=True, hidden=True)(with_restrictions)
    for option, name, metavar, text in reversed(_OPTIONS):
        with_restrictions = click.option(option, name, multiple=True, metavar=metavar, help=text)(with_restrictions)
    return with_restrictions


def warn_about_unknown(settings: Settings, tenant: str, restrictions: AccessRestrictions) -> None:
    """Print a note for each org, class and grade of the restrictions that no active record of the tenant has."""
    from backends import KEY, Compare, In, and_
    from chalk_flask.cli.options import open_configured_store
    from chalk_flask.oneroster.fields.scalars import fold
    from chalk_flask.oneroster.vocabularies import ACTIVE

    checks = (
        ("org", restrictions.orgs, "orgs", lambda value: Compare(KEY, "=", value)),
        ("class", restrictions.classes, "classes", lambda value: Compare(KEY, "=", value)),
        ("student of grade", restrictions.grades, "users", lambda value: In("grades", (fold(value),))),
    )
    with open_configured_store(settings) as store, store.read(tenant) as snapshot:
        for kind, values, collection, condition in checks:
            for value in sorted(values or ()):
                if not snapshot.exists(collection, and_(condition(value), Compare("status", "=", ACTIVE))):
                    _warn(tenant, kind, value)


def _warn(tenant: str, kind: str, value: str) -> None:
    click.echo(f"Note: the tenant {tenant} has no {kind} {value!r} yet, so it shows nothing.", err=True)


def describe_restrictions(restrictions: AccessRestrictions) -> str:
    """Return the restrictions as text for a column of a table."""
    text = str(restrictions) or "none"
    return text if len(text) <= MAX_WIDTH else text[: MAX_WIDTH - 3] + "..."


def _parse(values: dict[str, tuple[str, ...]], scopes: frozenset[str]) -> AccessRestrictions:
    from chalk_flask.permissions.restrictions import AccessRestrictions, InvalidRestrictionError, check_scopes

    try:
        restrictions = AccessRestrictions.parse(**values)
        check_scopes(scopes, restrictions)
    except InvalidRestrictionError as error:
        raise click.BadParameter(str(error)) from error
    return restrictions
