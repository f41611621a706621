"""Command line: `chalk-flask`, also `python -m chalk_flask`. `main` is the entry point.

Each command is a module of `cli/commands`. It parses options, calls the same functions as the HTTP service and prints
a result. A module imports the packages of its command only when the command runs, so that `--help` stays fast.
"""

from __future__ import annotations

import click

from chalk_flask.cli.commands.admin import admin_group
from chalk_flask.cli.commands.audit import audit_command
from chalk_flask.cli.commands.backends import backends_command
from chalk_flask.cli.commands.check import check_command
from chalk_flask.cli.commands.client import client_group
from chalk_flask.cli.commands.config import config_group
from chalk_flask.cli.commands.copy import copy_command
from chalk_flask.cli.commands.demo import demo_command
from chalk_flask.cli.commands.export import export_command
from chalk_flask.cli.commands.import_ import import_command
from chalk_flask.cli.commands.imports import imports_group
from chalk_flask.cli.commands.issuer import issuer_group
from chalk_flask.cli.commands.serve import serve_command
from chalk_flask.cli.commands.tenant import tenant_group
from chalk_flask.cli.commands.token import token_group
from chalk_flask.cli.commands.validate import validate_command
from chalk_flask.cli.commands.version import show_version
from chalk_flask.cli.commands.webhook import webhook_group
from chalk_flask.cli.errors import ErrorHandlingGroup

__all__ = ["main"]


@click.group(cls=ErrorHandlingGroup, name="chalk-flask")
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
      2  invalid command line
      3  held: the import exceeds a change threshold and waits for approval; nothing was changed
    """


main.add_command(demo_command)
main.add_command(serve_command)
main.add_command(validate_command)
main.add_command(import_command)
main.add_command(imports_group)
main.add_command(export_command)
main.add_command(token_group)
main.add_command(client_group)
main.add_command(tenant_group)
main.add_command(issuer_group)
main.add_command(admin_group)
main.add_command(webhook_group)
main.add_command(audit_command)
main.add_command(copy_command)
main.add_command(check_command)
main.add_command(config_group)
main.add_command(backends_command)
