"""One-time codes for the second step of signing in: time-based codes (TOTP, RFC 6238) and recovery codes."""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import sha256

import pyotp
from pyotp.utils import strings_equal

from chalk_flask.admins.passwords import generate_password

__all__ = [
    "RECOVERY_CODES",
    "generate_recovery_codes",
    "hash_recovery_code",
    "new_totp_secret",
    "provisioning_uri",
    "verify_code",
]

ISSUER = "Chalk Flask"
"""Name of the service in authenticator apps."""
RECOVERY_CODES = 10
"""Number of recovery codes of an administrator."""

# A code of the step before or after is accepted, because clocks differ.
_STEP_OFFSETS = (0, -1, 1)
_CODE = re.compile(r"[0-9]{6}")
_SECRET = re.compile(r"[A-Z2-7]{32}")
_SEPARATORS = re.compile(r"[\s-]+")


def new_totp_secret() -> str:
    """Return a random secret of 160 bits, in base 32."""
    return pyotp.random_base32()


def provisioning_uri(secret: str, name: str) -> str:
    """Return the `otpauth://` URI with which an authenticator app of the administrator of this name is set up."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=ISSUER)


def verify_code(secret: str, code: str, now: datetime, last_step: int | None) -> int | None:
    """Return the time step of a valid code. Return None for an invalid code or an invalid secret.

    The step becomes the `last_step` of the next call: codes up to this step are not accepted again.
    """
    digits = _SEPARATORS.sub("", code[:32])
    if not (_CODE.fullmatch(digits) and _SECRET.fullmatch(secret)):
        return None
    totp = pyotp.TOTP(secret)
    current = totp.timecode(now)
    for step in (current + offset for offset in _STEP_OFFSETS):
        if (last_step is None or step > last_step) and strings_equal(totp.generate_otp(step), digits):
            return step
    return None


def generate_recovery_codes() -> tuple[str, ...]:
    """Return new recovery codes. Each can be used once, in place of a time-based code."""
    return tuple(generate_password() for _ in range(RECOVERY_CODES))


def hash_recovery_code(code: str) -> str:
    """Return the SHA-256 of a recovery code, regardless of case, blanks and hyphens."""
    return sha256(_SEPARATORS.sub("", code[:64]).lower().encode("utf-8", "surrogatepass")).hexdigest()
