"""Drop folder: packages that another program puts into a folder are imported, and moved into a subfolder.

`DropFolderWatcher` is the entry point. `DropFolder` finds and moves the files. A package is imported once, and is never
lost, even if the process is killed.
"""

from chalk_flask.drop_folder.folder import DropFolder, DropFolderError
from chalk_flask.drop_folder.watcher import DropFolderWatcher

__all__ = ["DropFolder", "DropFolderError", "DropFolderWatcher"]
