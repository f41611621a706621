"""SQLite backend, the default: one database file, any number of processes."""

from backends.sqlite.backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
