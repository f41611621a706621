"""Store of administrators."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

from backends import CONTROL, MATCH_ALL, Backend, Compare, Query, Snapshot, Transaction
from chalk_flask.admins.passwords import PASSWORD_HASHER, PasswordError, PasswordHasher, check_password
from chalk_flask.admins.record import COLLECTION, Administrator, AdministratorError, fold_name, parse_name
from chalk_flask.admins.roles import ROLES, Role
from chalk_flask.admins.sessions import LOCK_TIMEOUT_SECONDS, delete_sessions
from chalk_flask.admins.totp import generate_recovery_codes, hash_recovery_code, verify_code
from chalk_flask.audit.events import AuditValue, record_event
from chalk_flask.auth.clients.store import encrypted_secrets
from chalk_flask.auth.secrets.encryption import SecretCipher, SecretUnavailableError
from chalk_flask.caching import VersionedCache
from chalk_flask.notices import MailPreferences
from chalk_flask.tenants.store import TenantError, require_tenant
from chalk_flask.times import utc_now

__all__ = [
    "AdministratorStore",
    "find_by_id",
    "find_by_name",
    "has_administrators",
    "insert",
    "list_names",
    "new_administrator",
]

MAX_CACHED_ADMINISTRATORS = 1024

ApplyChange: TypeAlias = Callable[[Transaction, Administrator], Administrator]
"""Function that returns the changed administrator. It may also write other records in the transaction."""


class AdministratorStore:
    """Administrators of a store. Thread-safe.

    A change and its audit event are stored in one transaction. `by` of the event is the id of the administrator who
    made the change, or the operating-system user name. The store does not check what `by` may do.

    Methods that change an administrator raise AdministratorError for an unknown id, and StorageBusyError if another
    writer holds the lock for more than ten seconds. Passwords, one-time codes and roles of external administrators
    cannot be changed: these methods raise AdministratorError.
    """

    def __init__(
        self,
        store: Backend,
        cipher: SecretCipher,
        now: Callable[[], datetime] = utc_now,
        hasher: PasswordHasher = PASSWORD_HASHER,
    ) -> None:
        self._store = store
        self._cipher = cipher
        self._now = now
        self._hasher = hasher
        self._cache: VersionedCache[str, Administrator] = VersionedCache(MAX_CACHED_ADMINISTRATORS)

    def create(
        self, name: str, role: Role, tenant: str | None, password: str, *, by: str | None = None
    ) -> Administrator:
        """Create and return an administrator of a tenant, or an operator if `tenant` is None.

        Raises AdministratorError for an invalid or existing name, an unknown role or tenant, and a password that
        breaks a rule.
        """
        administrator = new_administrator(name, role, tenant, password, self._now(), self._hasher)
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            insert(control, administrator)
            self._record(control, "administrator.created", administrator, role=role, by=by)
        return administrator

    def list(self, tenant: str | None = None) -> Sequence[Administrator]:
        """Return the administrators of a tenant, or (None) all administrators and operators, sorted by name."""
        where = MATCH_ALL if tenant is None else Compare("tenant", "=", tenant)
        with self._store.read(CONTROL) as control:
            bodies = control.find(Query(COLLECTION, where)).body()
        return sorted(Administrator.parse_many(bodies), key=lambda administrator: administrator.name)

    def exists(self) -> bool:
        """Return True if the store has an administrator."""
        with self._store.read(CONTROL) as control:
            return has_administrators(control)

    def get(self, administrator_id: str) -> Administrator | None:
        """Return the administrator with this id, or None. Cached until the next commit, for use in each request."""
        version = self._store.version(CONTROL)
        cached = self._cache.get(administrator_id, version)
        if cached is not None:
            return cached
        with self._store.read(CONTROL) as control:
            administrator = find_by_id(control, administrator_id)
        if administrator is not None:
            self._cache.put(administrator_id, version, administrator)
        return administrator

    def find(self, name: str) -> Administrator | None:
        """Return the administrator with this sign-in name in any case, or None."""
        with self._store.read(CONTROL) as control:
            return find_by_name(control, name)

    def reset_password(
        self, administrator_id: str, password: str, *, disable_totp: bool = False, by: str | None = None
    ) -> Administrator:
        """Set a password and end all sessions. With `disable_totp`, signing in no longer requires a one-time code.

        Raises AdministratorError for a password that breaks a rule.
        """
        set_password = self._password_change(administrator_id, password, disable_totp=disable_totp)
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            changed = self._apply_change(control, administrator_id, set_password)
            self._record(control, "administrator.changed", changed, change="password", totp=changed.uses_totp, by=by)
        return changed

    def change_password(self, administrator_id: str, password: str, *, except_hash: str | None = None) -> Administrator:
        """Set the password that the administrator chose. End all sessions except the one with this hash.

        Raises AdministratorError for a password that breaks a rule.
        """
        set_password = self._password_change(administrator_id, password, except_hash=except_hash)
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            changed = self._apply_change(control, administrator_id, set_password)
            self._record(control, "administrator.changed", changed, change="password", by=administrator_id)
        return changed

    def set_role(self, administrator_id: str, role: Role, *, by: str | None = None) -> Administrator:
        """Change the role from the next request on.

        Raises AdministratorError if the last operator with the role owner and a password would lose it.
        """
        _check_role(role)

        def change(control: Transaction, administrator: Administrator) -> Administrator:
            if role != "owner":
                _require_other_owner(control, administrator, "get another role")
            return replace(administrator, role=role)

        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            changed = self._apply_change(control, administrator_id, change)
            self._record(control, "administrator.changed", changed, change="role", role=role, by=by)
        return changed

    def set_mail(self, administrator_id: str, mail: MailPreferences, *, by: str | None = None) -> Administrator:
        """Set e-mail address and notices of any administrator, also of an external one. See `MailPreferences.of`."""
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            administrator = replace(_require(control, administrator_id), mail=mail)
            control.put(COLLECTION, [administrator.to_record()])
            self._record(control, "administrator.changed", administrator, change="mail", by=by)
        return administrator

    def delete(self, administrator_id: str, *, by: str | None = None) -> Administrator:
        """Delete an administrator with all sessions, and return the deleted administrator.

        Raises AdministratorError for the last operator with the role owner and a password.
        """
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            administrator = _require(control, administrator_id)
            _require_other_owner(control, administrator, "be deleted")
            control.delete(COLLECTION, [administrator_id])
            delete_sessions(control, administrator_id)
            self._record(control, "administrator.deleted", administrator, by=by)
        return administrator

    def enable_totp(
        self, administrator_id: str, secret: str, code: str, *, except_hash: str | None = None
    ) -> tuple[str, ...]:
        """Require one-time codes of this secret from now on, and return the recovery codes, which are shown once.

        All sessions end except the one with this hash, because they began without a code.

        Raises AdministratorError if the code is wrong, if codes are required already, and if the secret cannot be
        encrypted.
        """
        codes = generate_recovery_codes()

        def change(control: Transaction, administrator: Administrator) -> Administrator:
            if administrator.uses_totp:
                raise AdministratorError("one-time codes are required already: turn them off first")
            step = verify_code(secret, code, self._now(), None)
            if step is None:
                raise AdministratorError("the code is wrong: enter the code that the app shows now")
            delete_sessions(control, administrator_id, except_hash)
            return _with_recovery_codes(
                replace(administrator, totp_secret=self._encrypt(control, secret), totp_last_step=step), codes
            )

        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            changed = self._apply_change(control, administrator_id, change)
            self._record(control, "administrator.changed", changed, change="totp", totp=True, by=administrator_id)
        return codes

    def disable_totp(self, administrator_id: str, *, by: str | None = None) -> Administrator:
        """Stop requiring one-time codes, and delete the secret and the recovery codes."""
        author = by or administrator_id
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            changed = self._apply_change(
                control, administrator_id, lambda _, administrator: _without_totp(administrator)
            )
            self._record(control, "administrator.changed", changed, change="totp", totp=False, by=author)
        return changed

    def new_recovery_codes(self, administrator_id: str) -> tuple[str, ...]:
        """Replace the recovery codes and return the new ones, which are shown once.

        Raises AdministratorError if the administrator uses no one-time codes.
        """
        codes = generate_recovery_codes()

        def change(control: Transaction, administrator: Administrator) -> Administrator:
            if not administrator.uses_totp:
                raise AdministratorError("recovery codes require one-time codes: turn them on first")
            return _with_recovery_codes(administrator, codes)

        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            changed = self._apply_change(control, administrator_id, change)
            self._record(control, "administrator.changed", changed, change="recovery_codes", by=administrator_id)
        return codes

    def use_totp_code(self, administrator_id: str, code: str) -> bool:
        """Return True if the time-based code is valid. No process accepts this or an earlier code again.

        Raises SecretUnavailableError if the secret cannot be decrypted.
        """
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            administrator = _require(control, administrator_id)
            if administrator.totp_secret is None:
                return False
            secret = self._cipher.decrypt(administrator.totp_secret)
            step = verify_code(secret, code, self._now(), administrator.totp_last_step)
            if step is not None:
                control.put(COLLECTION, [replace(administrator, totp_last_step=step).to_record()])
        return step is not None

    def use_recovery_code(self, administrator_id: str, code: str) -> bool:
        """Return True if the recovery code is valid, and delete it."""
        hashed = hash_recovery_code(code)
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            administrator = _require(control, administrator_id)
            if hashed not in administrator.recovery_codes:
                return False
            left = tuple(other for other in administrator.recovery_codes if other != hashed)
            control.put(COLLECTION, [replace(administrator, recovery_codes=left).to_record()])
            members: dict[str, AuditValue] = {"change": "recovery_code_used", "left": len(left)}
            self._record(control, "administrator.changed", administrator, **members)
        return True

    def _password_change(
        self, administrator_id: str, password: str, *, disable_totp: bool = False, except_hash: str | None = None
    ) -> ApplyChange:
        """Return the change that sets a password. The slow hash is computed now, before the transaction."""
        with self._store.read(CONTROL) as control:
            name = _require_local(_require(control, administrator_id)).name
        password_hash, now = _hash_new_password(password, name, self._hasher), self._now()

        def change(control: Transaction, administrator: Administrator) -> Administrator:
            delete_sessions(control, administrator_id, except_hash)
            remaining = _without_totp(administrator) if disable_totp else administrator
            return replace(remaining, password_hash=password_hash, password_changed=now)

        return change

    @staticmethod
    def _apply_change(control: Transaction, administrator_id: str, change: ApplyChange) -> Administrator:
        administrator = change(control, _require_local(_require(control, administrator_id)))
        control.put(COLLECTION, [administrator.to_record()])
        return administrator

    def _encrypt(self, control: Snapshot, secret: str) -> str:
        try:
            # Decrypt an existing secret first. Otherwise a new key file could replace a lost one unnoticed.
            for encrypted in (*_encrypted_totp_secrets(control)[:1], *encrypted_secrets(control)[:1]):
                self._cipher.decrypt(encrypted)
            return self._cipher.encrypt(secret)
        except SecretUnavailableError as error:
            raise AdministratorError(f"the secret of the one-time codes cannot be encrypted: {error}") from error

    def _record(self, control: Transaction, event: str, administrator: Administrator, **members: AuditValue) -> None:
        record_event(control, administrator.audit_tenant, event, self._now(), id=administrator.id, **members)


def new_administrator(
    name: str, role: Role, tenant: str | None, password: str, now: datetime, hasher: PasswordHasher = PASSWORD_HASHER
) -> Administrator:
    """Return an administrator to insert. Raises AdministratorError for an invalid name, role or password."""
    _check_role(role)
    parsed = parse_name(name)
    return Administrator(
        id=secrets.token_hex(8),
        name=parsed,
        tenant=tenant,
        role=role,
        created=now,
        password_hash=_hash_new_password(password, parsed, hasher),
        password_changed=now,
    )


def insert(control: Transaction, administrator: Administrator) -> None:
    """Store a new administrator. Raises AdministratorError for an existing name and an unknown tenant."""
    if find_by_name(control, administrator.name) is not None:
        raise AdministratorError("there is an administrator with this name already: choose another one")
    try:
        if administrator.tenant is not None:
            require_tenant(control, administrator.tenant)
    except TenantError as error:
        raise AdministratorError(str(error)) from error
    control.put(COLLECTION, [administrator.to_record()])


def list_names(control: Snapshot) -> dict[str, str]:
    """Return the names of all administrators by id, from a snapshot of the control tenant."""
    stored = Administrator.parse_many(control.find(Query(COLLECTION)).body())
    return {administrator.id: administrator.name for administrator in stored}


def has_administrators(control: Snapshot) -> bool:
    """Return True if the store has an administrator, from a snapshot of CONTROL."""
    return control.exists(COLLECTION)


def _hash_new_password(password: str, name: str, hasher: PasswordHasher) -> str:
    try:
        check_password(password, name)
    except PasswordError as error:
        raise AdministratorError(str(error)) from error
    return hasher.hash(password)


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise AdministratorError(f"unknown role {role[:80]!r}: use {', '.join(ROLES)}")


def _with_recovery_codes(administrator: Administrator, codes: Sequence[str]) -> Administrator:
    return replace(administrator, recovery_codes=tuple(map(hash_recovery_code, codes)))


def _without_totp(administrator: Administrator) -> Administrator:
    return replace(administrator, totp_secret=None, totp_last_step=None, recovery_codes=())


def _require_local(administrator: Administrator) -> Administrator:
    """Return the administrator. Raises AdministratorError for an external one."""
    if administrator.is_external:
        raise AdministratorError(
            "this administrator signs in with an identity provider: change the account there, or let the operator"
            " change the setting oidc_access"
        )
    return administrator


def _require_other_owner(control: Snapshot, administrator: Administrator, change: str) -> None:
    """Raise AdministratorError if this is the only operator with the role owner and a password.

    External operators do not count: if their provider is down, no operator could sign in.
    """
    if not _is_owner_operator(administrator):
        return
    stored = Administrator.parse_many(control.find(Query(COLLECTION)).body())
    if not any(_is_owner_operator(other) and other.id != administrator.id for other in stored):
        raise AdministratorError(
            f"the last operator with the role owner and a password cannot {change}: create another one first"
        )


def _is_owner_operator(administrator: Administrator) -> bool:
    return administrator.is_operator and administrator.role == "owner" and not administrator.is_external


def _encrypted_totp_secrets(control: Snapshot) -> Sequence[str]:
    stored = Administrator.parse_many(control.find(Query(COLLECTION)).body())
    return [administrator.totp_secret for administrator in stored if administrator.totp_secret is not None]


def find_by_name(control: Snapshot, name: str) -> Administrator | None:
    """Return the administrator with this sign-in name in any case, or None, from a snapshot of CONTROL."""
    page = control.find(Query(COLLECTION, Compare("name", "=", fold_name(name)), limit=1))
    return next(Administrator.parse_many(page.body()), None)


def find_by_id(control: Snapshot, administrator_id: str) -> Administrator | None:
    """Return the administrator with this id, or None, from a snapshot of CONTROL."""
    body = control.get_many(COLLECTION, [administrator_id]).get(administrator_id)
    return Administrator.parse(body) if body is not None else None


def _require(control: Snapshot, administrator_id: str) -> Administrator:
    administrator = find_by_id(control, administrator_id)
    if administrator is None:
        raise AdministratorError("there is no such administrator: the account may have been deleted")
    return administrator
