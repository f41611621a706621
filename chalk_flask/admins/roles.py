"""Roles of administrators, and the table that says what each role may do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum, auto
from types import MappingProxyType
from typing import Final, Literal, Protocol, TypeAlias, get_args

__all__ = ["OPERATOR_PERMISSIONS", "PERMISSIONS", "ROLES", "Permission", "Role", "allows"]

Role: TypeAlias = Literal["viewer", "editor", "owner"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""All roles. Each includes the permissions of the roles before it."""


class Permission(StrEnum):
    """Right to see one kind of page of the console, or to make one kind of change."""

    DASHBOARD_VIEW = auto()
    ROSTER_VIEW = auto()
    IMPORTS_VIEW = auto()
    SOURCES_VIEW = auto()
    WEBHOOKS_VIEW = auto()
    AUDIT_VIEW = auto()
    CREDENTIALS_VIEW = auto()
    EXPLORER_USE = auto()
    IMPORTS_RUN = auto()
    IMPORTS_DECIDE = auto()
    SOURCES_SYNC = auto()
    WEBHOOKS_OPERATE = auto()
    DEMOGRAPHICS_VIEW = auto()
    CREDENTIALS_MANAGE = auto()
    SOURCES_MANAGE = auto()
    WEBHOOKS_MANAGE = auto()
    SETTINGS_MANAGE = auto()
    ADMINISTRATORS_MANAGE = auto()
    TENANTS_VIEW = auto()
    TENANTS_MANAGE = auto()
    OWN_ACCOUNT = auto()


_ALL: Final[frozenset[Role]] = frozenset(ROLES)
_EDITORS: Final[frozenset[Role]] = frozenset({"editor", "owner"})
_OWNERS: Final[frozenset[Role]] = frozenset({"owner"})

PERMISSIONS: Final[Mapping[Permission, frozenset[Role]]] = MappingProxyType(
    {
        Permission.DASHBOARD_VIEW: _ALL,
        Permission.ROSTER_VIEW: _ALL,
        Permission.IMPORTS_VIEW: _ALL,
        Permission.SOURCES_VIEW: _ALL,
        Permission.WEBHOOKS_VIEW: _ALL,
        Permission.AUDIT_VIEW: _ALL,
        Permission.CREDENTIALS_VIEW: _ALL,
        Permission.EXPLORER_USE: _ALL,
        Permission.OWN_ACCOUNT: _ALL,
        Permission.IMPORTS_RUN: _EDITORS,
        Permission.IMPORTS_DECIDE: _EDITORS,
        Permission.SOURCES_SYNC: _EDITORS,
        Permission.WEBHOOKS_OPERATE: _EDITORS,
        Permission.DEMOGRAPHICS_VIEW: _EDITORS,
        Permission.CREDENTIALS_MANAGE: _OWNERS,
        Permission.SOURCES_MANAGE: _OWNERS,
        Permission.WEBHOOKS_MANAGE: _OWNERS,
        Permission.SETTINGS_MANAGE: _OWNERS,
        Permission.ADMINISTRATORS_MANAGE: _OWNERS,
        Permission.TENANTS_VIEW: _ALL,
        Permission.TENANTS_MANAGE: _OWNERS,
    }
)
"""Roles that have each permission."""

OPERATOR_PERMISSIONS: Final = frozenset({Permission.TENANTS_VIEW, Permission.TENANTS_MANAGE})
"""Permissions that only operators can have, because they concern all tenants."""


class HasRole(Protocol):
    """The properties of an `Administrator` on which permissions depend."""

    @property
    def role(self) -> Role:
        """Role of the administrator."""
        ...

    @property
    def is_operator(self) -> bool:
        """True if the administrator has access to all tenants."""
        ...


def allows(administrator: HasRole, permission: Permission) -> bool:
    """Return True if the administrator has the permission, in the tenants to which the administrator has access."""
    if permission in OPERATOR_PERMISSIONS and not administrator.is_operator:
        return False
    return administrator.role in PERMISSIONS[permission]
