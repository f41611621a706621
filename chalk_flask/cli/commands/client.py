"""`chalk-flask client`: OAuth clients are created, listed, given new secrets and revoked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.formatting import format_table
from chalk_flask.cli.options import (
    as_json_option,
    check_configured_tenant,
    open_configured_store,
    parse_scope_options,
    require_durable,
    settings_from_options,
    settings_options,
    tenant_option,
)
from chalk_flask.cli.param_types import duration_or_zero
from chalk_flask.cli.restriction_options import describe_restrictions, restriction_options

if TYPE_CHECKING:
    from chalk_flask.auth.clients.store import ClientStore, OAuthClient
    from chalk_flask.permissions.restrictions import AccessRestrictions
    from chalk_flask.settings import Settings

__all__ = ["client_group"]

SCOPE_HELP = (
    "What the client may do: a scope's URI, its last part (roster.readonly), or all; may be repeated."
    "  [default: read everything but demographics]"
)
OAUTH1_HELP = (
    "The client may also sign its requests as in OAuth 1.0a, with its id as consumer key. For that the secret itself is"
    " kept, encrypted; the key to it is a file below `data`."
)
LARGEST = 1024 * 1024


@click.group("client", short_help="Create, list, rotate and revoke OAuth clients.")
def client_group() -> None:
    """Manage the clients that get their access tokens by OAuth 2 client credentials.

    They ask for them at /oauth/token, or at token beside the API root that they use, with their secret (by Basic or in
    the form) or with a JWT that they have signed (private_key_jwt).
    """


@client_group.command("create", epilog="Example: chalk-flask client create --label 'Learning platform' --json")
@click.option("--label", required=True, help="Who the client is; shown in the list.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help=SCOPE_HELP)
@tenant_option
@click.option("--jwks-file", metavar="FILE", help="The client signs in with a key: its public keys, as a JWK Set.")
@click.option("--public-key", metavar="FILE", help="The same, for one public key (RSA or P-256) in PEM.")
@click.option("--oauth1", is_flag=True, help=OAUTH1_HELP)
@restriction_options
@as_json_option
@settings_options("data")
def create(
    label: str,
    scopes: tuple[str, ...],
    tenant: str,
    jwks_file: str | None,
    public_key: str | None,
    oauth1: bool,
    limits: AccessRestrictions,
    as_json: bool,
    **given: Any,
) -> None:
    """Create a client and show its secret, once: the store keeps its SHA-256 only. One with a key has no secret."""
    if jwks_file is not None and public_key is not None:
        raise click.UsageError("give the client's key by --jwks-file or by --public-key, one of the two")
    if oauth1 and (jwks_file is not None or public_key is not None):
        raise click.UsageError("--oauth1 is for clients with a secret: leave it out, or the key")
    granted = parse_scope_options(scopes)
    jwks = _keys(jwks_file if jwks_file is not None else public_key)
    settings = require_durable(given)
    check_configured_tenant(settings, tenant)
    with _clients(settings) as clients:
        secret, record = clients.create(label, granted, tenant, jwks, limits, oauth1)
    echo_result(as_json, _made(secret, record), _created(secret, record))


@client_group.command("list", epilog="Example: chalk-flask client list --json")
@as_json_option
@settings_options()
def list_clients(as_json: bool, **given: Any) -> None:
    """List the clients, the oldest first; never a secret."""
    from backends import store_exists

    settings, records = settings_from_options(given), list[Any]()
    if store_exists(settings.storage):
        with _clients(settings) as clients:
            records = list(clients.list())
    echo_result(as_json, {"clients": [record.public_dict() for record in records]}, _table(records))


@client_group.command("rotate", epilog="Example: chalk-flask client rotate chk_client_5f0c6a91d2b3e478 --overlap 48h")
@click.argument("client_id", metavar="ID")
@click.option(
    "--overlap",
    default="24h",
    callback=duration_or_zero,
    metavar="SPAN",
    help="How long the former secret stays valid: 30m, 24h, 7d; 0s ends it now.  [default: 24h]",
)
@as_json_option
@settings_options("data")
def rotate(client_id: str, overlap: timedelta, as_json: bool, **given: Any) -> None:
    """Give a client a new secret and show it, once. Access tokens that it has stay valid until they expire."""
    with _existing(given, client_id) as clients:
        secret, record = clients.rotate(client_id, overlap)
    echo_result(as_json, _made(secret, record), _created(secret, record))


@client_group.command("revoke", epilog="Example: chalk-flask client revoke chk_client_5f0c6a91d2b3e478")
@click.argument("client_id", metavar="ID")
@as_json_option
@settings_options()
def revoke(client_id: str, as_json: bool, **given: Any) -> None:
    """End a client: it and the access tokens that it has are refused within a second, by every process."""
    with _existing(given, client_id) as clients:
        record = clients.revoke(client_id)
    echo_result(as_json, record.public_dict(), f"Revoked {record.id} ({record.label}).")


@contextmanager
def _clients(settings: Settings) -> Iterator[ClientStore]:
    from chalk_flask.auth.clients.store import ClientError, ClientStore
    from chalk_flask.auth.secrets.encryption import SecretCipher

    with open_configured_store(settings) as store:
        try:
            yield ClientStore(store, vault=SecretCipher(settings.data))
        except ClientError as error:
            raise CommandError(str(error)) from error


@contextmanager
def _existing(given: dict[str, Any], client_id: str) -> Iterator[ClientStore]:
    """The clients of a store, which is not made for that."""
    from backends import store_exists

    settings = settings_from_options(given)
    if not store_exists(settings.storage):
        raise CommandError(f"there is no client with the id {client_id!r}: nothing is stored yet")
    with _clients(settings) as clients:
        yield clients


def _keys(path: str | None) -> dict[str, Any] | None:
    from chalk_flask.auth.clients.assertions import parse_public_keys
    from chalk_flask.auth.clients.store import ClientError

    if path is None:
        return None
    with Path(path).open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise CommandError(f"{path} is too large for public keys: {LARGEST} bytes are the most")
    try:
        return parse_public_keys(content)
    except ClientError as error:
        raise CommandError(f"{path}: {error}") from error


def _made(secret: str | None, record: OAuthClient) -> dict[str, Any]:
    data = record.to_dict()
    former = [kept["until"] for kept in data["secrets"][1:]]
    return {
        "client_id": record.id,
        "client_secret": secret,
        "tenant": record.tenant,
        "scopes": data["scopes"],
        **({"oauth1": True} if record.uses_oauth1 else {}),
        **({"limits": data["limits"]} if data["limits"] else {}),
        **({"former_valid_until": max(former)} if former else {}),
    }


def _created(secret: str | None, record: OAuthClient) -> str:
    data = _made(secret, record)
    shown = [
        f"client_id     {record.id}",
        f"client_secret {secret or '(none: it signs in with its key)'}",
        f"tenant        {record.tenant}",
        *(f"scope         {scope}" for scope in data["scopes"]),
        *(["oauth1        its requests may be signed"] if record.uses_oauth1 else []),
        *([f"limits        {record.restrictions}"] if data.get("limits") else []),
        *(
            [f"The former secret stays valid until {data['former_valid_until']}."]
            if "former_valid_until" in data
            else []
        ),
        *(["", "This is the only time the secret is shown: keep it safe."] if secret else []),
    ]
    return "\n".join(shown)


def _table(records: Iterable[OAuthClient]) -> str:
    rows = [
        (
            each["id"],
            each["state"],
            _ways(each),
            each["tenant"],
            describe_restrictions(record.restrictions),
            each["label"],
        )
        for record in records
        for each in [record.public_dict()]
    ]
    if not rows:
        return "There are no clients. Create one: chalk-flask client create --label NAME"
    return format_table(("ID", "STATE", "SIGNS IN BY", "TENANT", "LIMITS", "LABEL"), rows)


def _ways(shown: dict[str, Any]) -> str:
    return f"{shown['auth']}, oauth1" if shown["oauth1"] else str(shown["auth"])
