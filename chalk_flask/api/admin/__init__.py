"""Admin API: upload of packages, and decisions about held imports, with a credential of the scope `imports.write`.

`admin_blueprint` is the entry point. `package_body_limit` lets such credentials send large bodies.
"""

from chalk_flask.api.admin.body_limit import package_body_limit
from chalk_flask.api.admin.package_body import IMPORT_PARAMETERS, ImportParameter
from chalk_flask.api.admin.paths import ADMIN_ROOT
from chalk_flask.api.admin.routes import ADMIN_ROUTES, IMPORT_ERRORS, AdminResult, AdminRoute, admin_blueprint

__all__ = [
    "ADMIN_ROOT",
    "ADMIN_ROUTES",
    "IMPORT_ERRORS",
    "IMPORT_PARAMETERS",
    "AdminResult",
    "AdminRoute",
    "ImportParameter",
    "admin_blueprint",
    "package_body_limit",
]
