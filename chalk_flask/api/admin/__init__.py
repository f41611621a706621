"""API for operations: upload of packages, and decisions about held ones, with a token of the scope `imports.write`.

`admin_blueprint` is the entry point. `package_body_limit` lets such tokens send large bodies.
"""

from chalk_flask.api.admin.body_limit import package_body_limit
from chalk_flask.api.admin.routes import ADMIN_ROOT, ADMIN_ROUTES, AdminRoute, admin_blueprint

__all__ = ["ADMIN_ROOT", "ADMIN_ROUTES", "AdminRoute", "admin_blueprint", "package_body_limit"]
