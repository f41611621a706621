"""Fixtures of the tests of administrators: a store without an application, a clock, and the parts of a sign-in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyotp
import pytest

from backends import Backend, open_store
from chalk_flask.admins import Administrator, AdministratorStore, SessionStore, new_totp_secret
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.storage import COLLECTIONS
from tests.support.clock import FakeClock
from tests.support.storage.audit_events import events_of_tenant

PASSWORD = "correct horse battery"


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    with open_store(storage, COLLECTIONS) as store:
        yield store


@pytest.fixture
def administrators(store: Backend, cipher: SecretCipher, clock: FakeClock) -> AdministratorStore:
    return AdministratorStore(store, cipher, clock)


@pytest.fixture
def sessions(store: Backend, clock: FakeClock) -> Iterator[SessionStore]:
    sessions = SessionStore(store, clock)
    yield sessions
    sessions.close()


@pytest.fixture
def kim(administrators: AdministratorStore) -> Administrator:
    """Owner of the tenant `default`."""
    return administrators.create("kim", "owner", "default", PASSWORD)


@pytest.fixture
def operator(administrators: AdministratorStore) -> Administrator:
    """Operator with the role owner."""
    return administrators.create("operator", "owner", None, PASSWORD)


def events_of(store: Backend, tenant: str) -> list[dict[str, Any]]:
    """Return the audit events of a tenant without time and tenant, oldest first."""
    return [
        {name: value for name, value in event.items() if name not in ("time", "tenant") and value is not None}
        for event in events_of_tenant(store, tenant)
    ]


def current_code(secret: str, clock: FakeClock, steps: int = 0) -> str:
    """Return the code that an app shows now, or some steps of 30 seconds later."""
    return pyotp.TOTP(secret).at(clock.now, counter_offset=steps)


def enable_totp(administrators: AdministratorStore, administrator: Administrator, clock: FakeClock) -> str:
    """Require one-time codes and return the secret. The code of the next step is the first one that is accepted."""
    secret = new_totp_secret()
    administrators.enable_totp(administrator.id, secret, current_code(secret, clock))
    return secret
