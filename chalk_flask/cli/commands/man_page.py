"""`chalk-flask man-page`: print the manual page of all commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

__all__ = ["man_page_command"]

LINE_WIDTH: Final = 72
"""Width of the help texts, which `man` indents by 7 columns."""


@click.command(
    "man-page",
    short_help="Print the manual page.",
    epilog="Example: chalk-flask man-page > chalk-flask.1 && man -l chalk-flask.1",
)
@click.pass_context
def man_page_command(ctx: click.Context) -> None:
    """Print the manual page, which contains the help text of each command, in the format of man.

    The installation script for Debian installs it, so that `man chalk-flask` shows it.
    """
    root = ctx.find_root().command
    context = click.Context(root, info_name="chalk-flask", terminal_width=LINE_WIDTH, **root.context_settings)
    click.echo("\n".join([*_head(), *_sections(root, context)]))


def _head() -> Iterator[str]:
    from chalk_flask import __version__

    yield f'.TH CHALK\\-FLASK 1 "" "Chalk Flask {_escape(__version__)}" ""'
    yield ".SH NAME"
    yield r"chalk\-flask \- serve OneRoster 1.1 from your own machine"


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield a section with the help text of a command, and the sections of its subcommands."""
    yield f'.SH "{_escape(context.command_path)}"'
    yield ".nf"
    yield from (_escape(line) for line in command.get_help(context).splitlines())
    yield ".fi"
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _sections(child, click.Context(child, parent=context, info_name=name))


def _escape(line: str) -> str:
    """Return a line of text as man reads it. A control line would start with a dot or an apostrophe."""
    escaped = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
