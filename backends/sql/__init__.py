"""Compiler, query cache and paging that the SQL backends share.

A query tree goes in, with the `Dialect` of a database. `Compiler` returns `Fragment`s: SQL text with its parameters.
`SQLSnapshot` is the base of the snapshots of a database. This package imports no driver and no backend.
"""

from backends.sql.compiler import Compiler
from backends.sql.dialect import Dialect, Fragment
from backends.sql.snapshot import SQLSnapshot

__all__ = ["Compiler", "Dialect", "Fragment", "SQLSnapshot"]
