"""`chalk-flask backends`: list the installed storage backends."""

from __future__ import annotations

from typing import Any

import click

from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.options import as_json_option
from chalk_flask.cli.table import format_table

__all__ = ["backends_command"]


@click.command(
    "backends",
    short_help="List the installed storage backends.",
    epilog="Example: chalk-flask backends --json",
)
@as_json_option
def backends_command(as_json: bool) -> None:
    """List the installed storage backends by the scheme of their URLs.

    durable: data outlives the process. shared: several processes can use a store at the same time.
    """
    from backends import installed_backends

    rows = [_describe(scheme, target) for scheme, target in installed_backends().items()]
    cells = [
        (row["scheme"], _yes_or_no(row["durable"]), _yes_or_no(row["shared"]), row["from"], row["note"]) for row in rows
    ]
    text = format_table(("SCHEME", "DURABLE", "SHARED", "FROM", ""), cells)
    echo_result(as_json, {"backends": rows}, "\n".join(line.rstrip() for line in text.splitlines()))


def _describe(scheme: str, target: str) -> dict[str, Any]:
    from backends import InvalidStorageURLError, backend_class

    row = {"scheme": scheme, "class": target, "from": _distribution(scheme)}
    try:
        backend = backend_class(f"{scheme}:")
    except InvalidStorageURLError as error:
        return {**row, "durable": None, "shared": None, "note": str(error)}
    return {**row, "durable": backend.durable, "shared": backend.shared, "note": ""}


def _distribution(scheme: str) -> str:
    """Return the name of the distribution that provides the backend."""
    from importlib.metadata import entry_points

    from backends import BUILT_IN_BACKENDS, ENTRY_POINT_GROUP

    if scheme in BUILT_IN_BACKENDS:
        return "chalk-flask"
    points = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == scheme]
    return next((point.dist.name for point in points if point.dist), "an unnamed distribution")


def _yes_or_no(flag: bool | None) -> str:
    return {True: "yes", False: "no", None: "?"}[flag]
