"""`chalk-flask secrets`: replace the key of encrypted secrets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.options import (
    as_json_option,
    open_configured_store,
    settings_from_options,
    settings_options,
)

if TYPE_CHECKING:
    from chalk_flask.auth.secrets import RotationResult

__all__ = ["secrets_group"]


@click.group("secrets", short_help="Replace the key of encrypted secrets.")
def secrets_group() -> None:
    """Replace the key that encrypts secrets in the store: `secrets.key` in the folder `data`.

    It encrypts the secrets that the service must be able to read. They are those of webhooks, of sources, of clients
    that use OAuth 1.0a, and of one-time codes.
    """


@secrets_group.command(
    "rotate",
    short_help="Replace the key, and encrypt all secrets with it.",
    epilog="Example: chalk-flask secrets rotate",
)
@as_json_option
@settings_options("data")
def rotate(as_json: bool, **options: Any) -> None:
    """Replace the key and encrypt all secrets again, while the service runs. No secret changes.

    All secrets are decrypted first. If one cannot be, nothing is changed and the exit code is 1. If this command is
    killed, all secrets stay readable: run it again, and it completes the rotation. Backups contain the former key.
    """
    from chalk_flask.auth.secrets import SecretUnavailableError, rotate_secrets

    settings = settings_from_options(options)
    try:
        with open_configured_store(settings) as store:
            result = rotate_secrets(store, Path(settings.data).absolute())
    except SecretUnavailableError as error:
        raise CommandError(str(error)) from error
    echo_result(as_json, result.to_dict(), _result_text(result))


def _result_text(result: RotationResult) -> str:
    counts = ", ".join(f"{count} of {collection}" for collection, count in result.counts.items())
    continued = " This completes the rotation that was interrupted." if result.is_continued else ""
    return f"Encrypted the secrets with a new key: {counts}.{continued}"
