"""Command lines in messages, completed with the options that the present command was called with."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

import click

from chalk_flask.settings.setting_type import without_passwords

__all__ = ["ARGUMENTS", "complete_hints"]

ARGUMENTS: Final = "chalk_flask.arguments"
"""Key of `Context.meta` with the arguments of the command line."""

_REPEATED_OPTIONS: Final = ("--config", "--storage", "--data", "--tenant")
"""Options without which the hinted command would work on another store, folder or tenant."""

_COMMAND_LINE = re.compile(r"\bchalk-flask (?P<words>[a-z][^`\n]*[^`\n\s.])")


def complete_hints(text: str) -> str:
    """Return the text, in which each `chalk-flask COMMAND` repeats the options that decide where a command works.

    These are --config, --storage, --data and --tenant as they were given, if the command has them. A command line ends
    at a backtick, or at the end of a line without its full stop. Passwords in URLs are replaced by ***.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return text
    root = context.find_root()
    given = dict(_given_options(root.meta.get(ARGUMENTS, ())))

    def complete(match: re.Match[str]) -> str:
        accepted = _option_names(root.command, match["words"].split())
        added = [(name, value) for name, value in given.items() if name in accepted and name not in match["words"]]
        return match[0] + "".join(f" {shlex.join(pair)}" for pair in added)

    return _COMMAND_LINE.sub(complete, text) if given else text


def _given_options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each repeated option on the command line; the last one of a name counts."""
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if argument == "--":
            return
        if name in _REPEATED_OPTIONS and (equals or position + 1 < len(arguments)):
            yield name, without_passwords(value if equals else arguments[position + 1])


def _option_names(command: click.Command, words: Sequence[str]) -> frozenset[str]:
    """Return the options of the command that these words start; none if they start no command."""
    for word in words:
        if not isinstance(command, click.Group):
            break
        if word not in command.commands:
            return frozenset()
        command = command.commands[word]
    return frozenset(name for option in command.params for name in option.opts)
