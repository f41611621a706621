"""Administrators of the console: their roles, passwords and one-time codes, and their sessions. Independent of HTTP.

`SignIn` is the entry point: it verifies a name and a password and returns an `Administrator`. `SessionStore` stores
sessions. `AdministratorStore` creates and changes administrators, and `SetupLink` creates the first one. `allows` says
what an administrator may do.
"""

from chalk_flask.admins.passwords import (
    MAX_PASSWORD_LENGTH,
    MIN_PASSWORD_LENGTH,
    PasswordError,
    check_password,
    generate_password,
)
from chalk_flask.admins.record import Administrator, AdministratorError
from chalk_flask.admins.roles import OPERATOR_PERMISSIONS, PERMISSIONS, ROLES, Permission, Role, allows
from chalk_flask.admins.sessions import ABSOLUTE_TIMEOUT, IDLE_TIMEOUT, Session, SessionError, SessionStore
from chalk_flask.admins.setup_link import SetupLink, SetupLinkError
from chalk_flask.admins.sign_in import SignIn, SignInError
from chalk_flask.admins.store import AdministratorStore
from chalk_flask.admins.throttle import SignInThrottle, TooManyAttemptsError
from chalk_flask.admins.totp import new_totp_secret, provisioning_uri

__all__ = [
    "ABSOLUTE_TIMEOUT",
    "IDLE_TIMEOUT",
    "MAX_PASSWORD_LENGTH",
    "MIN_PASSWORD_LENGTH",
    "OPERATOR_PERMISSIONS",
    "PERMISSIONS",
    "ROLES",
    "Administrator",
    "AdministratorError",
    "AdministratorStore",
    "PasswordError",
    "Permission",
    "Role",
    "Session",
    "SessionError",
    "SessionStore",
    "SetupLink",
    "SetupLinkError",
    "SignIn",
    "SignInError",
    "SignInThrottle",
    "TooManyAttemptsError",
    "allows",
    "check_password",
    "generate_password",
    "new_totp_secret",
    "provisioning_uri",
]
