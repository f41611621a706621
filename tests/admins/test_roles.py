"""Roles and the table of permissions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalk_flask.admins import PERMISSIONS, ROLES, Administrator, Permission, Role, allows
from tests.support.clock import FakeClock

VIEW = {
    *(Permission.DASHBOARD_VIEW, Permission.ROSTER_VIEW, Permission.IMPORTS_VIEW, Permission.WEBHOOKS_VIEW),
    Permission.SOURCES_VIEW,
    *(Permission.AUDIT_VIEW, Permission.CREDENTIALS_VIEW, Permission.EXPLORER_USE, Permission.OWN_ACCOUNT),
}
EDIT = {
    *(Permission.IMPORTS_RUN, Permission.IMPORTS_DECIDE, Permission.WEBHOOKS_OPERATE, Permission.DEMOGRAPHICS_VIEW),
    Permission.SOURCES_SYNC,
}
MANAGE = {
    *(Permission.CREDENTIALS_MANAGE, Permission.WEBHOOKS_MANAGE, Permission.SETTINGS_MANAGE),
    *(Permission.ADMINISTRATORS_MANAGE, Permission.SOURCES_MANAGE),
}

MEMBER = Administrator(id="a", name="kim", tenant="default", role="viewer", created=FakeClock().now, password_hash="x")


def permissions_of(role: Role, tenant: str | None) -> set[Permission]:
    administrator = replace(MEMBER, role=role, tenant=tenant)
    return {permission for permission in Permission if allows(administrator, permission)}


def test_every_permission_has_roles() -> None:
    assert set(PERMISSIONS) == set(Permission)
    assert all(roles and roles <= set(ROLES) for roles in PERMISSIONS.values())


@pytest.mark.parametrize("tenant", ["default", None])
def test_each_role_may_do_what_the_table_says(tenant: str | None) -> None:
    view = VIEW | {Permission.TENANTS_VIEW} if tenant is None else VIEW
    tenants = {Permission.TENANTS_MANAGE} if tenant is None else set()
    assert permissions_of("viewer", tenant) == view
    assert permissions_of("editor", tenant) == view | EDIT
    assert permissions_of("owner", tenant) == view | EDIT | MANAGE | tenants
