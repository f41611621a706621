"""Errors of the command line: each becomes one line, an exit code and, with --json, a JSON object."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
import orjson

from backends import StorageError
from chalk_flask.cli.hints import ARGUMENTS, complete_hints
from chalk_flask.settings import SettingsError
from chalk_flask.settings.setting_type import absolute_path
from chalk_flask.tracebacks import error_location

__all__ = ["CommandError", "ErrorHandlingGroup", "echo_result"]

MAX_FRAMES = 4
"""Number of innermost frames that the message about an unexpected error shows."""

_UNEXPECTED_ADVICE = "If the store is damaged, `chalk-flask check` says so; otherwise please report this error."

_INVALID_RECORD = "a record of the store is not valid JSON: run `chalk-flask check`, and restore a backup"

_JSON_REQUESTED = "chalk_flask.json"


class CommandError(Exception):
    """Error of a command that changed nothing. The message contains the reason and the remedy."""


class _CommandFailure(click.ClickException):
    exit_code = 1


class _InvalidSettings(click.ClickException):
    exit_code = 2


class ErrorHandlingGroup(click.Group):
    """Outermost group. Turns every expected error into a message and an exit code, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a new operator needs them."""
        return list(self.commands)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments, and print the help if they request it. Raise ClickException if it cannot be written."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            raise _CommandFailure(_error_message(error)) from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Store the arguments, and if --json is one: errors may occur before the command has parsed its options.

        `help COMMAND` is the same as `COMMAND --help`.
        """
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]
        ctx.meta[_JSON_REQUESTED] = "--json" in args
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raise expected errors as ClickException, which click prints as one line."""
        try:
            _check_arguments(ctx.meta[ARGUMENTS])
            return super().invoke(ctx)
        except click.UsageError as error:
            _echo_json_error(ctx, "usage", error.format_message())
            raise
        except (SettingsError, CommandError, StorageError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of the output has closed the pipe, so a message cannot arrive
            message = complete_hints(_error_message(error))
            _echo_json_error(ctx, _error_code(error), message)
            failure = _InvalidSettings if isinstance(error, SettingsError) else _CommandFailure
            raise failure(message) from error
        except orjson.JSONDecodeError as error:  # input of users is parsed elsewhere, with its own messages
            message = complete_hints(_INVALID_RECORD)
            _echo_json_error(ctx, "storage_failed", message)
            raise _CommandFailure(message) from error
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:
            # Messages of unexpected errors may quote personal data, so only the location is shown.
            message = complete_hints(f"the command failed: {error_location(error, MAX_FRAMES)}. {_UNEXPECTED_ADVICE}")
            _echo_json_error(ctx, "failed", message)
            raise _CommandFailure(message) from error


def echo_result(as_json: bool, data: Mapping[str, Any], text: str) -> None:
    """Print a result on stdout: one JSON object, or text."""
    click.echo(json.dumps(data, ensure_ascii=False) if as_json else text)


def _check_arguments(arguments: Sequence[str]) -> None:
    """Raise UsageError for an argument that is not UTF-8, because neither a store nor JSON can contain it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"the argument {argument!a} is not UTF-8: rename the file or the id") from None


def _echo_json_error(ctx: click.Context, code: str, message: str) -> None:
    if ctx.meta[_JSON_REQUESTED]:
        click.echo(json.dumps({"error": code, "message": message}))


def _error_code(error: Exception) -> str:
    match error:
        case SettingsError():
            return "bad_settings"
        case CommandError():
            return "refused"
        case StorageError():
            return "storage_failed"
        case _:
            return "system_failed"


def _error_message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = absolute_path(error.filename) if isinstance(error.filename, str) else error.filename
        return f"{name}: {error.strerror}" if name else error.strerror
    return str(error)
