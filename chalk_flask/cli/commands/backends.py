"""`chalk-flask backends`: where records can be kept."""

from __future__ import annotations

from typing import Any

import click

from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.formatting import format_table
from chalk_flask.cli.options import as_json_option

__all__ = ["backends_command"]


@click.command(
    "backends",
    short_help="List the storage backends that are installed.",
    epilog="Example: chalk-flask backends --json",
)
@as_json_option
def backends_command(as_json: bool) -> None:
    """List the storage backends that are installed, by the scheme of the URLs that they open.

    durable: what was stored is there after the process ended. shared: several processes may use a store at once.
    """
    from backends import installed_backends

    rows = [_described(scheme, target) for scheme, target in installed_backends().items()]
    cells = [(row["scheme"], _word(row["durable"]), _word(row["shared"]), row["from"], row["note"]) for row in rows]
    text = format_table(("SCHEME", "DURABLE", "SHARED", "FROM", ""), cells)
    echo_result(as_json, {"backends": rows}, "\n".join(line.rstrip() for line in text.splitlines()))


def _described(scheme: str, target: str) -> dict[str, Any]:
    from backends import InvalidStorageURLError, backend_class

    row = {"scheme": scheme, "class": target, "from": _origin(scheme)}
    try:
        found = backend_class(f"{scheme}:")
    except InvalidStorageURLError as error:
        return {**row, "durable": None, "shared": None, "note": str(error)}
    return {**row, "durable": found.durable, "shared": found.shared, "note": ""}


def _origin(scheme: str) -> str:
    """The distribution that brings the backend."""
    from importlib.metadata import entry_points

    from backends import BUILT_IN, GROUP

    if scheme in BUILT_IN:
        return "chalk-flask"
    points = [point for point in entry_points(group=GROUP) if point.name == scheme]
    return next((point.dist.name for point in points if point.dist), "an unnamed distribution")


def _word(flag: bool | None) -> str:
    return {True: "yes", False: "no", None: "?"}[flag]
