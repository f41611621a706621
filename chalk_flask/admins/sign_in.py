"""Sign-in: the first step verifies the password, the second step a one-time code."""

from __future__ import annotations

import logging

from chalk_flask.admins.passwords import PASSWORD_HASHER, HasherBusyError, PasswordHasher
from chalk_flask.admins.record import Administrator, AdministratorError, parse_name
from chalk_flask.admins.store import AdministratorStore
from chalk_flask.admins.throttle import SignInThrottle, TooManyAttemptsError
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.auth.secrets.encryption import SecretUnavailableError

__all__ = ["SignIn", "SignInError"]

log = logging.getLogger(__name__)

BUSY_RETRY_SECONDS = 2


class SignInError(Exception):
    """Wrong name, password or code; the message does not say which of name and password is wrong."""


class SignIn:
    """Verification of passwords and one-time codes. Thread-safe.

    `address` is the address of the client, and `browser` the id of a browser that is known for the account. Every
    method raises TooManyAttemptsError above a limit, before it verifies anything. It also does so while too many others
    sign in. Failures are recorded in the audit log, without unknown names.
    """

    def __init__(
        self,
        administrators: AdministratorStore,
        login_log: LoginLog,
        throttle: SignInThrottle | None = None,
        hasher: PasswordHasher = PASSWORD_HASHER,
    ) -> None:
        self._administrators = administrators
        self._login_log = login_log
        self._throttle = throttle or SignInThrottle()
        self._hasher = hasher

    def authenticate(self, name: str, password: str, address: str, browser: str | None = None) -> Administrator:
        """Return the administrator with this name and password. Raises SignInError.

        Takes the same time for known and unknown names. If the administrator `uses_totp`, the code must follow.
        """
        try:
            with self._hasher.reserve():
                self._throttle.count_password(name, address, browser)
                administrator = self._find(name)
                if administrator is None or administrator.is_external:
                    self._hasher.verify_dummy(password)
                    is_valid = False
                else:
                    is_valid = self._hasher.verify(administrator.password_hash, password)
        except HasherBusyError as error:
            raise TooManyAttemptsError(BUSY_RETRY_SECONDS) from error
        if administrator is None or not is_valid:
            self._record_failure(administrator, address)
            raise SignInError("wrong name or password")
        return administrator

    def confirm_password(
        self, administrator: Administrator, password: str, address: str, browser: str | None = None
    ) -> None:
        """Verify the password of a signed-in administrator before a change of the account. Raises SignInError."""
        try:
            self.authenticate(administrator.name, password, address, browser)
        except SignInError as error:
            raise SignInError("wrong password") from error

    def verify_code(self, administrator: Administrator, code: str, address: str, browser: str | None = None) -> None:
        """Verify a time-based code or a recovery code. Each code is accepted once. Raises SignInError."""
        self._throttle.count_code(administrator.id, address, browser)
        try:
            is_valid = self._use_code(administrator.id, code)
        except AdministratorError:  # deleted in the meantime
            is_valid = False
        if not is_valid:
            self._record_failure(administrator, address)
            raise SignInError("wrong code")

    def _find(self, name: str) -> Administrator | None:
        """Return the administrator of this name. A text that cannot be a name takes the same time."""
        try:
            return self._administrators.find(parse_name(name))
        except AdministratorError:
            self._administrators.find("")
            return None

    def _use_code(self, administrator_id: str, code: str) -> bool:
        try:
            if self._administrators.use_totp_code(administrator_id, code):
                return True
        except SecretUnavailableError as error:
            log.error("one-time codes of administrators cannot be verified: %s", error)
        return self._administrators.use_recovery_code(administrator_id, code)

    def _record_failure(self, administrator: Administrator | None, address: str) -> None:
        tenant, identifier = (administrator.audit_tenant, administrator.id) if administrator else (None, None)
        self._login_log.record_failed_sign_in(tenant, identifier, address)
