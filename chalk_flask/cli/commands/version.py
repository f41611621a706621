"""`chalk-flask --version`."""

from __future__ import annotations

import click

__all__ = ["show_version"]


def show_version(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    """Print the version that is installed, and end."""
    from importlib.metadata import PackageNotFoundError, version

    if not asked or ctx.resilient_parsing:
        return
    try:
        number = version("chalk-flask")
    except PackageNotFoundError:
        number = "(from source; not installed)"
    click.echo(f"chalk-flask {number}")
    ctx.exit()
