"""Difference between a package and the stored roster.

A package and a snapshot go in. `RosterDiff` compares them. Out come a `ChangeSet` for each collection, with the records
to write, and the keys of the tombstones to purge.
"""

from __future__ import annotations

from chalk_flask.roster.diff.change_set import ChangeSet
from chalk_flask.roster.diff.diff import RosterDiff

__all__ = ["ChangeSet", "RosterDiff"]
