"""Signed-in administrator of the current request, and what the views of pages need from the application."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flask import current_app, g

from chalk_flask.admins.roles import Permission, allows
from chalk_flask.console.api_client import ApiClient, administrator_principal
from chalk_flask.tenants.store import DEMOGRAPHICS

if TYPE_CHECKING:
    from chalk_flask.admins.record import Administrator
    from chalk_flask.admins.sessions import Session
    from chalk_flask.services import Services

__all__ = ["ConsoleRequest", "PendingSignIn", "current", "current_services", "pending_sign_in", "signed_in"]


class ConsoleRequest:
    """Request of a signed-in administrator.

    `tenant` is the tenant whose data the page shows: the administrator's own, or the one that an operator has selected.
    """

    def __init__(self, services: Services, administrator: Administrator, session: Session, tenant: str) -> None:
        self.services = services
        self.administrator = administrator
        self.session = session
        self.tenant = tenant

    @cached_property
    def api(self) -> ApiClient:
        """Client of the API that reads everything of the tenant except demographics."""
        return self.api_with(demographics=False)

    def api_with(self, *, demographics: bool) -> ApiClient:
        """Return a client of the API. With `demographics`, it reads them if the tenant has opted in.

        Raises Forbidden unless the administrator has the permission DEMOGRAPHICS_VIEW. The caller records the access.
        """
        principal = administrator_principal(self.services.store, self.administrator, self.tenant, demographics)
        return ApiClient(current_app, principal)

    @cached_property
    def demographics_denied(self) -> bool:
        """True if the tenant has not opted in to demographics."""
        return DEMOGRAPHICS in self.api.principal.restrictions.denied

    def allows(self, permission: Permission) -> bool:
        """Return True if the administrator has the permission."""
        return allows(self.administrator, permission)

    def user_name(self, user: str) -> str:
        """Return the name of an administrator by id. Other names, such as those of operating-system users, stay.

        Only operators see the names of operators.
        """
        administrator = self.services.administrators.get(user)
        if administrator is None:
            return user or "unknown"
        is_hidden = administrator.is_operator and not self.administrator.is_operator
        return "an operator" if is_hidden else administrator.name


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """Sign-in of an administrator whose password was right and whose one-time code is still missing."""

    administrator: Administrator
    session: Session


def pending_sign_in() -> PendingSignIn | None:
    """Return the sign-in that lacks its one-time code, or None."""
    found: PendingSignIn | None = g.get("pending_sign_in")
    return found


def signed_in() -> ConsoleRequest | None:
    """Return the request of the administrator, or None if the visitor is not signed in."""
    found: ConsoleRequest | None = g.get("console")
    return found


def current() -> ConsoleRequest:
    """Return the request of the administrator. Every route with a permission has one."""
    found = signed_in()
    assert found is not None
    return found


def current_services() -> Services:
    """Return the services of the application, also before sign-in."""
    services: Any = current_app.extensions["chalk"]
    found: Services = services
    return found
