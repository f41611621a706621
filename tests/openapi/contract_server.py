"""Service with the sample district, for the contract runner: `python -m tests.openapi.contract_server STORAGE DATA`.

It prints its URL and a token with every scope, in one line.
"""

from __future__ import annotations

import sys
from importlib.resources import as_file, files
from pathlib import Path

import click

from chalk_flask.cli.local_server import open_service, run_server
from chalk_flask.permissions.scopes import KNOWN
from chalk_flask.roster.tenant_imports import run_import


def main(storage: str, data: str) -> None:
    """Serve until a signal arrives."""
    options = {"storage": storage, "data": data, "port": 0, "log_level": "error"}
    with open_service(options) as (app, services), as_file(files("chalk_flask") / "demo") as folder:
        run_import(services.store, services.settings, Path(folder), "default", requested_by="contract")
        token, _ = services.tokens.create("contract", KNOWN)
        run_server(app, services, lambda url: click.echo(f"{url} {token}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
