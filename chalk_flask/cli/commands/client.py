"""`chalk-flask client`: create, list, rotate and revoke OAuth clients."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.credentials import (
    open_credentials,
    overlap_option,
    scope_option,
    settings_for_new,
    shown_once_warning,
    summary_text,
)
from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.options import as_json_option, settings_from_options, settings_options, tenant_option
from chalk_flask.cli.restriction_options import describe_restrictions, restriction_options, warn_about_unknown
from chalk_flask.cli.table import format_table

if TYPE_CHECKING:
    from chalk_flask.auth.clients.record import OAuthClient
    from chalk_flask.auth.clients.store import ClientStore
    from chalk_flask.permissions.restrictions import AccessRestrictions
    from chalk_flask.settings import Settings

__all__ = ["client_group"]

OAUTH1_HELP = (
    "Allow the client to sign requests with OAuth 1.0a; its id is the consumer key. Its secret is stored encrypted,"
    " with a key in the folder `data`. The service must run with public_url."
)
JWKS_HELP = (
    "Public keys of a client that signs assertions, as a JWK Set. The service must run with public_url; their"
    " audience begins with it."
)
MAX_KEY_FILE_BYTES = 1024 * 1024


@click.group("client", short_help="Create, list, rotate and revoke OAuth clients.")
def client_group() -> None:
    """Manage the clients that obtain access tokens with OAuth 2 client credentials.

    A client sends its secret (HTTP Basic or form) or a signed JWT (private_key_jwt). The token endpoint is
    /oauth/token, or token below an API root.
    """


@client_group.command("create", epilog="Example: chalk-flask client create --label 'Learning platform' --json")
@click.option("--label", required=True, help="Name of the client, shown in the list.")
@scope_option("The client can")
@tenant_option
@click.option("--jwks-file", metavar="FILE", help=JWKS_HELP)
@click.option("--public-key", metavar="FILE", help="One public key (RSA or P-256) of such a client, in PEM.")
@click.option("--oauth1", is_flag=True, help=OAUTH1_HELP)
@restriction_options
@as_json_option
@settings_options("data", "public_url")
def create(
    label: str,
    scopes: frozenset[str],
    tenant: str,
    jwks_file: str | None,
    public_key: str | None,
    oauth1: bool,
    restrictions: AccessRestrictions,
    as_json: bool,
    **options: Any,
) -> None:
    """Create a client and show its secret once. The store keeps only its SHA-256. A client with a key has no secret."""
    if jwks_file is not None and public_key is not None:
        raise click.UsageError("--jwks-file and --public-key exclude each other: use one of them")
    if oauth1 and (jwks_file is not None or public_key is not None):
        raise click.UsageError("--oauth1 requires a client with a secret: omit --oauth1 or the key")
    jwks = _read_public_keys(jwks_file if jwks_file is not None else public_key)
    settings = settings_for_new(options, tenant)
    with _client_store(settings) as clients:
        secret, record = clients.create(label, scopes, tenant, jwks, restrictions, oauth1)
    warn_about_unknown(settings, tenant, restrictions)
    echo_result(as_json, _created_data(secret, record), _created_text(secret, record))
    if jwks is not None or oauth1:
        click.echo(_address_note(settings.public_url, oauth1), err=True)


@client_group.command("list", epilog="Example: chalk-flask client list --json")
@as_json_option
@settings_options()
def list_clients(as_json: bool, **options: Any) -> None:
    """List the clients, oldest first, without their secrets."""
    with _client_store(settings_from_options(options)) as clients:
        records = list(clients.list())
    echo_result(as_json, {"clients": [record.public_dict() for record in records]}, _table(records))


@client_group.command("rotate", epilog="Example: chalk-flask client rotate chk_client_5f0c6a91d2b3e478 --overlap 48h")
@click.argument("client_id", metavar="ID")
@overlap_option("Validity of the former secret: 30m, 24h, 7d; 0s revokes it now.")
@as_json_option
@settings_options("data")
def rotate(client_id: str, overlap: timedelta, as_json: bool, **options: Any) -> None:
    """Create a new secret for a client and show it once. Its access tokens stay valid until they expire."""
    with _client_store(settings_from_options(options)) as clients:
        secret, record = clients.rotate(client_id, overlap)
    echo_result(as_json, _created_data(secret, record), _created_text(secret, record))


@client_group.command("revoke", epilog="Example: chalk-flask client revoke chk_client_5f0c6a91d2b3e478")
@click.argument("client_id", metavar="ID")
@as_json_option
@settings_options()
def revoke(client_id: str, as_json: bool, **options: Any) -> None:
    """Revoke a client. Every process rejects the client and its access tokens within a second."""
    with _client_store(settings_from_options(options)) as clients:
        record = clients.revoke(client_id)
    echo_result(as_json, record.public_dict(), f"Revoked {record.id} ({record.label}).")


def _client_store(settings: Settings) -> AbstractContextManager[ClientStore]:
    from chalk_flask.auth.clients.store import ClientError, ClientStore
    from chalk_flask.auth.secrets.encryption import SecretCipher

    return open_credentials(settings, lambda store: ClientStore(store, cipher=SecretCipher(settings.data)), ClientError)


def _read_public_keys(path: str | None) -> dict[str, Any] | None:
    from chalk_flask.auth.clients.assertions import parse_public_keys
    from chalk_flask.auth.clients.store import ClientError

    if path is None:
        return None
    with Path(path).open("rb") as file:
        content = file.read(MAX_KEY_FILE_BYTES + 1)
    if len(content) > MAX_KEY_FILE_BYTES:
        raise CommandError(f"{path} is too large for a file of public keys: at most {MAX_KEY_FILE_BYTES} bytes")
    try:
        return parse_public_keys(content)
    except ClientError as error:
        raise CommandError(f"{path}: {error}") from error


def _created_data(secret: str | None, record: OAuthClient) -> dict[str, Any]:
    data = record.to_dict()
    former_until = [former["until"] for former in data["secrets"][1:]]
    return {
        "client_id": record.id,
        "client_secret": secret,
        "tenant": record.tenant,
        "scopes": data["scopes"],
        **({"oauth1": True} if record.uses_oauth1 else {}),
        **({"limits": data["limits"]} if data["limits"] else {}),
        **({"former_valid_until": max(former_until)} if former_until else {}),
    }


def _created_text(secret: str | None, record: OAuthClient) -> str:
    data = _created_data(secret, record)
    rows = [
        ("client_id", record.id),
        ("client_secret", secret or "(none: the client authenticates with its key)"),
        ("tenant", record.tenant),
        *(("scope", scope) for scope in data["scopes"]),
        *([("oauth1", "can sign requests")] if record.uses_oauth1 else []),
        *([("limits", record.restrictions)] if data.get("limits") else []),
    ]
    lines = summary_text(rows, 14)
    if "former_valid_until" in data:
        lines.append(f"The former secret stays valid until {data['former_valid_until']}.")
    if secret:
        lines += ["", shown_once_warning("secret")]
    return "\n".join(lines)


def _address_note(public_url: str, oauth1: bool) -> str:
    """Return a note on the address to which the credentials of the client are bound."""
    base_url = public_url or "{public_url}"
    use = (
        f"It signs URLs that begin with {base_url}/"
        if oauth1
        else f"Audience of its assertions: {base_url}/oauth/token"
    )
    if public_url:
        return f"{use}."
    return (
        f"{use}. public_url is not set here. The service rejects this client unless it runs with public_url"
        " (CHALK_PUBLIC_URL), the address at which clients reach it."
    )


def _row(record: OAuthClient) -> tuple[str, ...]:
    data = record.public_dict()
    method = f"{data['auth']}, oauth1" if data["oauth1"] else str(data["auth"])
    return (
        record.id,
        data["state"],
        method,
        record.tenant,
        data["lastUsed"] or "never",
        describe_restrictions(record.restrictions),
        record.label,
    )


def _table(records: Iterable[OAuthClient]) -> str:
    rows = [_row(record) for record in records]
    if not rows:
        return complete_hints("There are no clients. Create one: chalk-flask client create --label NAME")
    return format_table(("ID", "STATE", "AUTHENTICATION", "TENANT", "LAST USED", "RESTRICTIONS", "LABEL"), rows)
