"""Maximum size of uploads: clients with a bearer token of the scope `imports.write` can send large bodies."""

from __future__ import annotations

from chalk_flask.api.admin.paths import IMPORTS_PATH
from chalk_flask.permissions.scopes import IMPORTS_WRITE, includes_scope
from chalk_flask.server import BodyLimit, RequestHead
from chalk_flask.services import Services

__all__ = ["package_body_limit"]


def package_body_limit(services: Services) -> BodyLimit:
    """Return the function that accepts packages from clients who may import.

    A signed request (OAuth 1.0a) is verified once, so its client cannot send a large body.
    """

    def limit(head: RequestHead) -> int | None:
        if (head.method, head.path.removesuffix("/")) != ("POST", IMPORTS_PATH):
            return None
        can_import = _can_import(services, head.headers.get("AUTHORIZATION", ""))
        return services.jobs.max_body_bytes if can_import else 0

    return limit


def _can_import(services: Services, authorization: str) -> bool:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return False
    principal = services.authenticator.peek(token.strip())
    return principal is not None and includes_scope(principal.scopes, IMPORTS_WRITE) and not principal.is_restricted
