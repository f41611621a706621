"""Passwords of administrators: rules for new ones, and their hashes by argon2id."""

from __future__ import annotations

import secrets
import threading
import unicodedata
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import argon2

__all__ = [
    "MAX_PASSWORD_LENGTH",
    "MIN_PASSWORD_LENGTH",
    "PASSWORD_HASHER",
    "HasherBusyError",
    "PasswordError",
    "PasswordHasher",
    "check_password",
    "generate_password",
]

MIN_PASSWORD_LENGTH = 12
"""Minimum length in characters."""
MAX_PASSWORD_LENGTH = 256
"""Maximum length in characters."""
MIN_DIFFERENT_CHARACTERS = 5
"""Minimum number of different characters."""

MAX_RESERVATIONS = 4
"""Maximum number of sign-ins that wait for a hash at once, so that they cannot occupy all threads."""

# OWASP Password Storage Cheat Sheet, Argon2id: 19 MiB, 2 iterations, parallelism 1.
_MEMORY_KIB = 19 * 1024
_ITERATIONS = 2
_PARALLELISM = 1

# Without characters that readers confuse: 0 and o, 1, i and l.
_UNAMBIGUOUS_CHARACTERS = "23456789abcdefghjkmnpqrstuvwxyz"
_GROUP_COUNT = 4
_GROUP_LENGTH = 4


class PasswordError(ValueError):
    """Rejected new password; the message states the rule and does not contain the password."""


class HasherBusyError(Exception):
    """Rejection of a sign-in because too many others wait for a hash."""


class PasswordHasher:
    """Argon2id hashing of passwords, one hash at a time, so that sign-ins cannot use all memory. Thread-safe.

    `hash_count` is the number of hashes that were computed, including those of verifications.
    """

    def __init__(self) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=_ITERATIONS, memory_cost=_MEMORY_KIB, parallelism=_PARALLELISM, type=argon2.Type.ID
        )
        self._lock = threading.Lock()
        self._reservations = threading.BoundedSemaphore(MAX_RESERVATIONS)
        self._dummy_hash = _random_hash()
        self.hash_count = 0

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Reserve a place for a sign-in until the block ends. Raises HasherBusyError if there is none."""
        if not self._reservations.acquire(blocking=False):
            raise HasherBusyError
        try:
            yield
        finally:
            self._reservations.release()

    def hash(self, password: str) -> str:
        """Return the hash of a password, with its salt and parameters."""
        with self._lock:
            self.hash_count += 1
            return self._argon2.hash(_to_bytes(password))

    def verify(self, password_hash: str, password: str) -> bool:
        """Return True if the password has this hash. Returns False for a damaged hash."""
        with self._lock:
            self.hash_count += 1
            try:
                return self._argon2.verify(password_hash, _to_bytes(password))
            except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
                return False

    def verify_dummy(self, password: str) -> None:
        """Verify against a random hash, so that an unknown name takes as long as a known one."""
        self.verify(self._dummy_hash, password)


def check_password(password: str, name: str) -> None:
    """Raise PasswordError if the password is too short, too long or too simple for the administrator of this name."""
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise PasswordError(
            f"invalid password of {len(password)} characters: use {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH}"
        )
    if len(set(password)) < MIN_DIFFERENT_CHARACTERS:
        raise PasswordError(f"the password is too simple: use at least {MIN_DIFFERENT_CHARACTERS} different characters")
    if password.lower() == name:
        raise PasswordError("the password is the name of the administrator: choose another one")


def generate_password() -> str:
    """Return a random password of 79 bits that is easy to type, such as `k7mp-92xr-hq4v-t8ne`."""
    characters = _UNAMBIGUOUS_CHARACTERS
    groups = ("".join(secrets.choice(characters) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUP_COUNT))
    return "-".join(groups)


def _to_bytes(password: str) -> bytes:
    # NIST SP 800-63B, 5.1.1.2: normalize, because keyboards differ in how they compose characters.
    return unicodedata.normalize("NFKC", password[: MAX_PASSWORD_LENGTH + 1]).encode("utf-8", "surrogatepass")


def _random_hash() -> str:
    """Return a random hash with the parameters of real hashes. No known password has it."""
    salt, digest = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={_MEMORY_KIB},t={_ITERATIONS},p={_PARALLELISM}${salt}${digest}"


PASSWORD_HASHER: Final = PasswordHasher()
"""Password hasher that all sign-ins of this process share."""
