"""Imports of OneRoster CSV packages.

`import_package` takes a store, a tenant, the path of a package and `ImportOptions`, and returns an `ImportReport`. A
package is rejected, held for approval, or applied in full. `approve` and `discard` in `approval` decide about held
packages. `history` lists the runs.
"""

from chalk_flask.roster.imports.importer import import_package
from chalk_flask.roster.imports.options import ImportOptions
from chalk_flask.roster.imports.parameters import OnCommit, OnProgress, OnResult
from chalk_flask.roster.imports.report import ImportReport

__all__ = ["ImportOptions", "ImportReport", "OnCommit", "OnProgress", "OnResult", "import_package"]
