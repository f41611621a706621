"""Reader of OneRoster CSV packages.

`open_package` takes a path, ZIP or folder, and returns a `Package` within the limits of the settings.
`PackageReader` takes the package and a snapshot of the stored roster, and yields the valid rows of each file. Both
collect errors and warnings in `ImportProblems`.
"""

from chalk_flask.roster.package.archive import ArchiveLimits, Package, open_package
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems, PackageRejectedError
from chalk_flask.roster.package.reader import PackageReader

__all__ = [
    "ArchiveLimits",
    "ImportProblem",
    "ImportProblems",
    "Package",
    "PackageReader",
    "PackageRejectedError",
    "open_package",
]
