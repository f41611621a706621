"""External administrators: they sign in with an account of an identity provider, which decides about their access."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import cast

from backends import CONTROL, Backend, Snapshot, Transaction
from chalk_flask.admins.record import COLLECTION, Administrator, AdministratorError, fold_name, parse_name
from chalk_flask.admins.roles import Role
from chalk_flask.admins.sessions import LOCK_TIMEOUT_SECONDS, delete_sessions
from chalk_flask.admins.store import find_by_id, find_by_name
from chalk_flask.audit.events import AuditValue, record_event
from chalk_flask.oidc import Identity
from chalk_flask.settings.sign_in_rules import AccessRule
from chalk_flask.tenants.store import TenantError, require_tenant
from chalk_flask.times import utc_now

__all__ = ["ExternalAdministrators", "external_id"]

BY = "identity provider"
"""Member `by` of the events of changes that a sign-in makes."""
ID_LENGTH = 32
"""Length of an id in hexadecimal digits."""


class ExternalAdministrators:
    """External administrators of a store. Thread-safe.

    Issuer and subject identify an administrator, never a name or an e-mail address. So the account of a provider never
    gets the access of an administrator with a password.
    """

    def __init__(self, store: Backend, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now

    def save(self, identity: Identity, rule: AccessRule, access_digest: str) -> Administrator:
        """Create the administrator of an identity, or give it the tenant and role of the rule, and return it.

        If the tenant changes, all sessions end. Raises AdministratorError if the tenant does not exist.
        """
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            former = _find(control, identity)
            _check_tenant(control, rule.tenant)
            administrator = replace(
                former or self._new(identity),
                name=_choose_name(control, identity, former),
                tenant=rule.tenant,
                role=cast("Role", rule.role),  # the rules of the settings contain these roles alone
                access_digest=access_digest,
            )
            if administrator != former:
                _put(control, administrator, former)
                self._record_change(control, administrator, former)
        return administrator

    def end_sessions(self, identity: Identity) -> Administrator | None:
        """End all sessions of an identity that has no access any more. Return its administrator, if there is one."""
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            administrator = _find(control, identity)
            ended = delete_sessions(control, administrator.id) if administrator is not None else ()
            if administrator is not None and ended:
                members: dict[str, AuditValue] = {"administrator": administrator.id, "count": len(ended)}
                record_event(control, administrator.audit_tenant, "session.ended", self._now(), **members)
        return administrator

    def _new(self, identity: Identity) -> Administrator:
        return Administrator(
            id=external_id(identity),
            name="",
            tenant=None,
            role="viewer",
            created=self._now(),
            password_hash="",
            issuer=identity.issuer,
            subject=identity.subject,
        )

    def _record_change(self, control: Transaction, administrator: Administrator, former: Administrator | None) -> None:
        members = {"id": administrator.id, "role": administrator.role, "by": BY}
        if former is None:
            record_event(control, administrator.audit_tenant, "administrator.created", self._now(), **members)
        elif (former.tenant, former.role) != (administrator.tenant, administrator.role):
            for tenant in dict.fromkeys((former.audit_tenant, administrator.audit_tenant)):
                record_event(control, tenant, "administrator.changed", self._now(), change="access", **members)


def external_id(identity: Identity) -> str:
    """Return the id of the administrator of an identity, the same at every sign-in."""
    return sha256(f"{identity.issuer}\0{identity.subject}".encode()).hexdigest()[:ID_LENGTH]


def _find(control: Snapshot, identity: Identity) -> Administrator | None:
    found = find_by_id(control, external_id(identity))
    if found is not None and (found.issuer, found.subject) != (identity.issuer, identity.subject):
        raise AdministratorError("there is another administrator with the id of this account: delete that one")
    return found


def _check_tenant(control: Snapshot, tenant: str | None) -> None:
    try:
        if tenant is not None:
            require_tenant(control, tenant)
    except TenantError as error:
        raise AdministratorError(f"{error} (setting oidc_access)") from error


def _choose_name(control: Snapshot, identity: Identity, former: Administrator | None) -> str:
    """Return the name of the account, unless it is invalid or that of another administrator."""
    administrator_id = external_id(identity)
    try:
        name = parse_name(fold_name(identity.account_name))
    except AdministratorError:
        name = ""
    holder = find_by_name(control, name) if name else None
    if name and (holder is None or holder.id == administrator_id):
        return name
    return former.name if former is not None else f"oidc-{administrator_id}"


def _put(control: Transaction, administrator: Administrator, former: Administrator | None) -> None:
    if former is not None and former.tenant != administrator.tenant:
        delete_sessions(control, administrator.id)
    control.put(COLLECTION, [administrator.to_record()])
