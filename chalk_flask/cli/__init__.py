"""Command line: `chalk-flask`, also `python -m chalk_flask`. `main` is the entry point.

Each command is a module of `cli/commands`. It parses options, calls the same functions as the HTTP service and prints
a result. The module of a command is imported when the command is used, and imports the packages of its command only
when the command runs. So a command starts fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module

import click

from chalk_flask.cli.commands.version import show_version
from chalk_flask.cli.errors import ErrorHandlingGroup

__all__ = ["main"]


class _LazyCommands(MutableMapping[str, click.Command]):
    """Commands by name, in order. Each is imported from `cli/commands` at its first use.

    The values of `targets` are written `module:command`.
    """

    def __init__(self, targets: Mapping[str, str]) -> None:
        self._commands: dict[str, click.Command | str] = {**targets}

    def __getitem__(self, name: str) -> click.Command:
        command = self._commands[name]
        if isinstance(command, str):
            module, _, attribute = command.partition(":")
            command = getattr(import_module(f"chalk_flask.cli.commands.{module}"), attribute)
            assert isinstance(command, click.Command)
            self._commands[name] = command
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)


COMMANDS = {
    "demo": "demo:demo_command",
    "serve": "serve:serve_command",
    "worker": "worker:worker_command",
    "validate": "validate:validate_command",
    "import": "import_:import_command",
    "imports": "imports:imports_group",
    "source": "source:source_group",
    "export": "export:export_command",
    "token": "token:token_group",
    "client": "client:client_group",
    "tenant": "tenant:tenant_group",
    "issuer": "issuer:issuer_group",
    "admin": "admin:admin_group",
    "webhook": "webhook:webhook_group",
    "mail": "mail:mail_group",
    "secrets": "encrypted_secrets:secrets_group",
    "audit": "audit:audit_command",
    "backup": "backup:backup_command",
    "restore": "restore:restore_command",
    "copy": "copy:copy_command",
    "check": "check:check_command",
    "config": "config:config_group",
    "backends": "backends:backends_command",
    "completion": "completion:completion_command",
    "man-page": "man_page:man_page_command",
}
"""Module and command by name, in the order in which a new operator needs them."""


@click.group(
    cls=ErrorHandlingGroup,
    name="chalk-flask",
    commands=_LazyCommands(COMMANDS),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Serve OneRoster 1.1 from your own machine: import a district's CSV package, serve the rostering API.

    Each setting is an option (--port), an environment variable (CHALK_PORT) and a key of the settings file (port). An
    option overrides the variable, the variable overrides the file. Results go to stdout, everything else to stderr.

    \b
    Exit codes:
      0  success
      1  rejected: invalid input, or the storage failed; nothing was changed
      2  invalid command line or setting; nothing was changed
      3  held: the import exceeds a change threshold and waits for approval; nothing was changed
    """
