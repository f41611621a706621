"""The options by which an operator limits what a token, a client or an issuer may see."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

import click

if TYPE_CHECKING:
    from chalk_flask.permissions.restrictions import AccessRestrictions

__all__ = ["describe_restrictions", "restriction_options"]

Command: TypeAlias = Callable[..., Any]

MAX_WIDTH = 60
"""Characters of limits in a table."""

_REPEATED = "may be repeated."
_OPTIONS = (
    ("--limit-org", "orgs", "ID", f"See only what belongs to this org, and the orgs above it; {_REPEATED}"),
    ("--limit-grade", "grades", "GRADE", f"Of students see only those of this grade; {_REPEATED}"),
    ("--limit-class", "classes", "ID", f"See only this class and the people enrolled in it; {_REPEATED}"),
    ("--deny", "denied", "FAMILY", f"See nothing of a family such as results or users; {_REPEATED}"),
    ("--redact", "redacted", "FIELD", f"See records without a field such as email or metadata.*; {_REPEATED}"),
)


def restriction_options(command: Command) -> Command:
    """The options of limits; the command gets what they say as `limits`."""

    @wraps(command)
    def limited(*words: Any, **given: Any) -> Any:
        named = {name: given.pop(name) for _, name, _, _ in _OPTIONS}
        return command(*words, limits=_limits(named), **given)

    for option, name, metavar, words in reversed(_OPTIONS):
        limited = click.option(option, name, multiple=True, metavar=metavar, help=words)(limited)
    return limited


def describe_restrictions(limits: object) -> str:
    """Limits in a column of a table."""
    text = str(limits) or "none"
    return text if len(text) <= MAX_WIDTH else text[: MAX_WIDTH - 3] + "..."


def _limits(named: dict[str, tuple[str, ...]]) -> AccessRestrictions:
    from chalk_flask.permissions.restrictions import AccessRestrictions, InvalidRestrictionError

    try:
        return AccessRestrictions.parse(**named)
    except InvalidRestrictionError as error:
        raise click.BadParameter(str(error)) from error
