"""Difference between a package and the stored roster.

`RosterDiff` reads a package, compares it with a snapshot, and provides one `ChangeSet` for each collection with the
records to write, and the keys of the tombstones to purge.
"""

from __future__ import annotations

from chalk_flask.roster.diff.change_set import ChangeSet
from chalk_flask.roster.diff.diff import RosterDiff

__all__ = ["ChangeSet", "RosterDiff"]
