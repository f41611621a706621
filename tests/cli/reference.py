"""The reference of the command line, made from its own help: `python -m tests.cli.reference > docs/cli.md`."""

from __future__ import annotations

import sys

import click

from chalk_flask.cli import main

__all__ = ["reference"]

HEAD = """\
# Command line

`chalk-flask`, also `python -m chalk_flask`. This page is what `--help` says; a test keeps it so
(`python -m tests.cli.reference > docs/cli.md` writes it again).

With `--json` a command prints exactly one JSON object on stdout. An error is one too:
`{"error": "refused", "message": "..."}`, where `error` is `refused`, `bad_settings`, `storage_failed`, `system_failed`
or `usage`; a refused package is reported as the object that a successful import prints, with `"state": "refused"`.
Progress (on a terminal only), logs and messages go to stderr.
"""


def reference() -> str:
    """The whole page."""
    root = click.Context(main, info_name="chalk-flask", terminal_width=80)
    return "\n".join([HEAD, *_sections(main, root)])


def _sections(command: click.Command, context: click.Context) -> list[str]:
    level = "##" if context.parent is None or context.parent.parent is None else "###"
    found = [f"{level} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"]
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            found += _sections(each, click.Context(each, info_name=name, parent=context, terminal_width=80))
    return found


if __name__ == "__main__":
    sys.stdout.write(reference())
