"""`chalk-flask --version`: show the installed version."""

from __future__ import annotations

import click

__all__ = ["show_version"]


def show_version(ctx: click.Context, option: click.Parameter, is_requested: bool) -> None:
    """Print the installed version and exit."""
    from importlib.metadata import PackageNotFoundError, version

    if not is_requested or ctx.resilient_parsing:
        return
    try:
        number = version("chalk-flask")
    except PackageNotFoundError:
        number = "(from source; not installed)"
    click.echo(f"chalk-flask {number}")
    ctx.exit()
