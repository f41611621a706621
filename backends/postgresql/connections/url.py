"""Storage URLs of PostgreSQL: URLs of libpq with the further parameters `schema`, `pool` and `partitions`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from backends.errors import InvalidStorageURLError

__all__ = ["Location", "parse_url"]

_DEFAULT_SCHEMA = "chalk"
_DEFAULT_POOL = 16
_MAX_POOL = 1000
_DEFAULT_PARTITIONS = 32
_MAX_PARTITIONS = 1024
_DEFAULTS = {
    "connect_timeout": "10",
    "application_name": "chalk-flask",
    "target_session_attrs": "read-write",
    # A host that was switched off sends nothing. Without these, a statement would wait for hours.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}

_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_FORM = "write postgresql://user@host:port/database?schema=name"


@dataclass(frozen=True, slots=True)
class Location:
    """Location of a store: the connection string of libpq, the schema, and the maximum number of idle readers.

    `partitions` is the number of partitions of each table of the roster in a new store.
    """

    conninfo: str
    schema: str
    pool: int
    partitions: int

    def __repr__(self) -> str:
        """Return the location without the connection string, which may contain a password."""
        return f"Location(schema={self.schema!r})"


def parse_url(url: str) -> Location:
    """Return the location of a store. Raises InvalidStorageURLError, whose message contains no part of the URL.

    The only exceptions are names of parameters, and values of the further ones. libpq's messages would quote passwords.
    """
    base, _, query = url.partition("?")
    if not re.match(r"postgresql://", base, re.IGNORECASE) or "#" in url:
        raise InvalidStorageURLError(f"the postgresql URL is invalid: {_FORM}")
    if base.lower().startswith("postgresql:///") and "host=" not in query:
        raise InvalidStorageURLError(
            f"the postgresql URL names no host: {_FORM}, or ?host=/run/postgresql for a socket"
        )
    if base.count("@") > 1:  # libpq ends the password at the first one, and its error would contain the rest as a host
        raise InvalidStorageURLError(
            "the postgresql URL has more than one @: write %40 for each @ in its user, password and database"
        )
    # libpq reads a plus sign as itself, not as a space.
    query = query.replace("+", "%2B")
    try:
        parameters = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError:
        raise InvalidStorageURLError(f"the parameters of the postgresql URL are invalid: {_FORM}") from None
    own = {name: value for name, value in parameters if name in ("schema", "pool", "partitions", "replicas")}
    libpq = [(name, value) for name, value in parameters if name not in own]
    _check_parameters([name for name, _ in parameters])
    if own.pop("replicas", "0") != "0":
        raise InvalidStorageURLError(
            "replicas: reads from standbys are not supported yet: remove the parameter from the postgresql URL"
        )
    return Location(
        _conninfo(base[base.index(":") :], libpq),
        _schema(own.get("schema", _DEFAULT_SCHEMA)),
        _number("pool", own.get("pool"), _DEFAULT_POOL, _MAX_POOL),
        _number("partitions", own.get("partitions"), _DEFAULT_PARTITIONS, _MAX_PARTITIONS),
    )


def _check_parameters(names: list[str]) -> None:
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    for name in names:
        if name not in known | {"schema", "pool", "partitions", "replicas", "ssl"}:
            raise InvalidStorageURLError(
                f"the postgresql URL has an unknown parameter {name!r}: use schema, pool, partitions, or a parameter"
                " of libpq such as sslmode"
            )
        if names.count(name) > 1:
            raise InvalidStorageURLError(f"the postgresql URL has the parameter {name!r} twice: keep one")


def _conninfo(base: str, parameters: list[tuple[str, str]]) -> str:
    text = "postgresql" + base + ("?" + urlencode(parameters, quote_via=quote) if parameters else "")
    try:
        options = conninfo_to_dict(text)
    except psycopg.Error:
        raise InvalidStorageURLError(f"the postgresql URL is invalid: {_FORM}") from None
    if not re.fullmatch(r"[0-9,]*", str(options.get("port", ""))):
        raise InvalidStorageURLError(f"the port of the postgresql URL is no number: {_FORM}")
    return make_conninfo("", **(_DEFAULTS | options | {"client_encoding": "UTF8"}))


def _schema(name: str) -> str:
    if not _SCHEMA_NAME.fullmatch(name) or name.startswith("pg_") or name in ("public", "information_schema"):
        raise InvalidStorageURLError(
            f"the schema {name!r} of the postgresql URL is invalid: use up to 63 lower-case letters, digits and"
            " underscores, not public, and nothing that begins with pg_"
        )
    return name


def _number(name: str, text: str | None, default: int, largest: int) -> int:
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= largest:
        raise InvalidStorageURLError(
            f"{name}={text!r} of the postgresql URL is invalid: use a number from 1 to {largest}"
        )
    return int(text)
