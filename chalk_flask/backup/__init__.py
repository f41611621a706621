"""Backups: one archive with a store and its folder `data`, written while the service runs, and restored later.

`create_backup` and `restore_backup` are the entry points. docs/how-to/back-up.md describes them for operators.
"""

from chalk_flask.backup.archive import ArchiveReader
from chalk_flask.backup.backup import BackupResult, create_backup
from chalk_flask.backup.errors import ArchiveError, BackupError
from chalk_flask.backup.manifest import Manifest
from chalk_flask.backup.restore import RestoreResult, restore_backup, verify_backup
from chalk_flask.backup.rotation import delete_leftovers, delete_old_backups, new_backup_path

__all__ = [
    "ArchiveError",
    "ArchiveReader",
    "BackupError",
    "BackupResult",
    "Manifest",
    "RestoreResult",
    "create_backup",
    "delete_leftovers",
    "delete_old_backups",
    "new_backup_path",
    "restore_backup",
    "verify_backup",
]
