"""SQLite backend, opened by `sqlite:///path`: the default, in one database file for any number of processes."""

from backends.sqlite.backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
