"""Connections of the PostgreSQL backend: URLs, statements with binary results, pools, messages about commits, errors.

A storage URL goes in (`parse_url`), and a `ConnectionPool` returns connections. Errors of psycopg become those of
`backends.errors`.
"""

from backends.postgresql.connections.connection import Connection, ConnectionLostError
from backends.postgresql.connections.errors import driver_errors
from backends.postgresql.connections.listener import LAG_SECONDS, CommitListener, channel_of, payload_of
from backends.postgresql.connections.pool import ConnectionPool
from backends.postgresql.connections.url import Location, parse_url

__all__ = [
    "LAG_SECONDS",
    "CommitListener",
    "Connection",
    "ConnectionLostError",
    "ConnectionPool",
    "Location",
    "channel_of",
    "driver_errors",
    "parse_url",
    "payload_of",
]
