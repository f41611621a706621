"""The edge of the command line: where an error becomes a line, an exit code and, with --json, an object."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from typing import Any

import click

from backends import StorageError
from chalk_flask.settings import SettingsError

__all__ = ["CommandError", "ErrorHandlingGroup", "echo_result"]

_JSON = "chalk_flask.json"


class CommandError(Exception):
    """What was asked for is not done, and nothing was changed; the message says why and what to do."""


class _ExitOne(click.ClickException):
    exit_code = 1


class ErrorHandlingGroup(click.Group):
    """The outermost group. Whatever can go wrong with input or storage ends here, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which someone new needs them."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember whether JSON is asked for: a usage error comes before the command has read its options."""
        ctx.meta[_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Errors that are expected leave as click's own, which end with a line and an exit code."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            _tell(ctx, "usage", error.format_message())
            raise
        except (SettingsError, CommandError, StorageError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # whoever read our output has gone: nobody is left to be told
            message = _message(error)
            _tell(ctx, _code(error), message)
            raise _ExitOne(message) from error


def echo_result(as_json: bool, data: Mapping[str, Any], text: str) -> None:
    """Print a result on stdout: one JSON object, or text for a person."""
    click.echo(json.dumps(data, ensure_ascii=False) if as_json else text)


def _tell(ctx: click.Context, code: str, message: str) -> None:
    if ctx.meta[_JSON]:
        click.echo(json.dumps({"error": code, "message": message}))


def _code(error: Exception) -> str:
    match error:
        case SettingsError():
            return "bad_settings"
        case CommandError():
            return "refused"
        case StorageError():
            return "storage_failed"
        case _:
            return "system_failed"


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
