"""Connections of the PostgreSQL backend: storage URLs, statements with binary results, pools, and errors.

A storage URL goes in (`parse_url`), and connections come out of a `ConnectionPool`. Errors of the driver become those
of `backends.errors`.
"""

from backends.postgresql.connections.connection import Connection, ConnectionLostError
from backends.postgresql.connections.errors import driver_errors
from backends.postgresql.connections.pool import ConnectionPool
from backends.postgresql.connections.url import Location, parse_url

__all__ = ["Connection", "ConnectionLostError", "ConnectionPool", "Location", "driver_errors", "parse_url"]
