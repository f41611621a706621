"""Maximum size of uploads: administrators who may import can send larger bodies than other clients."""

from __future__ import annotations

from typing import Final

from chalk_flask.admins.roles import Permission, allows
from chalk_flask.console.session_cookie import session_secrets_in
from chalk_flask.server import BodyLimit, RequestHead
from chalk_flask.services import Services

__all__ = ["UPLOAD_PATH", "upload_limit"]

UPLOAD_PATH: Final = "/imports/upload"


def upload_limit(services: Services) -> BodyLimit:
    """Return the function that accepts packages from administrators who may import."""

    def limit(head: RequestHead) -> int | None:
        if (head.method, head.path) != ("POST", UPLOAD_PATH):
            return None
        can_import = _can_import(services, head.headers.get("COOKIE", ""))
        return services.jobs.max_body_bytes if can_import else 0

    return limit


def _can_import(services: Services, cookie_header: str) -> bool:
    for secret in session_secrets_in(cookie_header):
        session = services.sessions.find(secret)
        if session is not None and session.totp_done:
            administrator = services.administrators.get(session.administrator_id)
            return administrator is not None and allows(administrator, Permission.IMPORTS_RUN)
    return False
