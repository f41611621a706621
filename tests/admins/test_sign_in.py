"""Sign-in: wrong and right passwords and codes, limits on attempts, and what is recorded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from argon2 import extract_parameters

from backends import CONTROL, Backend
from chalk_flask.admins import (
    Administrator,
    AdministratorStore,
    SignIn,
    SignInError,
    SignInThrottle,
    TooManyAttemptsError,
    new_totp_secret,
)
from chalk_flask.admins.passwords import MAX_RESERVATIONS, PasswordHasher
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.tenants.store import TenantStore, find_audit_tenant
from tests.admins.conftest import PASSWORD, current_code, enable_totp, events_of
from tests.support.clock import FakeClock

ADDRESS = "192.0.2.1"


@pytest.fixture
def login_log(store: Backend) -> Iterator[LoginLog]:
    log = LoginLog(store, find_audit_tenant, interval=3600)
    yield log
    log.close()


@pytest.fixture
def hasher() -> PasswordHasher:
    return PasswordHasher()


@pytest.fixture
def sign_in(
    administrators: AdministratorStore, login_log: LoginLog, hasher: PasswordHasher, clock: FakeClock
) -> SignIn:
    return SignIn(administrators, login_log, SignInThrottle(clock.time), hasher)


def attempt(sign_in: SignIn, name: str, address: str, password: str = "a wrong password") -> bool:
    """Return False if the attempt was rejected because of a limit."""
    try:
        sign_in.authenticate(name, password, address)
    except TooManyAttemptsError:
        return False
    except SignInError:
        pass
    return True


@pytest.mark.every_backend
def test_name_in_any_case_and_password_give_the_administrator(sign_in: SignIn, kim: Administrator) -> None:
    assert sign_in.authenticate("kim", PASSWORD, ADDRESS) == kim
    assert sign_in.authenticate(" Kim", PASSWORD, ADDRESS) == kim


@pytest.mark.parametrize("name", ["kim", "unknown", "", "x", "not a name", "\udc80", "x" * 100_000])
def test_wrong_name_or_password_costs_one_hash(
    sign_in: SignIn, kim: Administrator, hasher: PasswordHasher, name: str
) -> None:
    for password in ("", "a wrong password", PASSWORD.upper(), "x" * 100_000, "\udc80"):
        before = hasher.hash_count
        with pytest.raises(SignInError) as rejection:
            sign_in.authenticate(name, password, ADDRESS)
        assert str(rejection.value) == "wrong name or password"
        assert hasher.hash_count == before + 1


def test_hash_of_an_unknown_name_has_the_parameters_of_others(hasher: PasswordHasher, kim: Administrator) -> None:
    parameters = extract_parameters(kim.password_hash)
    assert extract_parameters(hasher._dummy_hash) == parameters
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19 * 1024, 2, 1)


@pytest.mark.parametrize("name", ["kim", "unknown"])
def test_1000_attempts_on_an_account_cost_5_hashes_a_minute(
    sign_in: SignIn, kim: Administrator, hasher: PasswordHasher, clock: FakeClock, name: str
) -> None:
    for number in range(1000):
        attempt(sign_in, name, f"198.51.{number >> 8}.{number & 255}")
    assert hasher.hash_count == 5
    assert not attempt(sign_in, name, ADDRESS, PASSWORD)
    clock.advance(60)
    for number in range(1000):
        attempt(sign_in, name, f"198.51.{number >> 8}.{number & 255}")
    assert hasher.hash_count == 10


def test_attempts_from_an_address_cost_20_hashes_a_minute(sign_in: SignIn, hasher: PasswordHasher) -> None:
    for number in range(200):
        attempt(sign_in, f"name-{number}", ADDRESS)
    assert hasher.hash_count == 20


def test_sign_ins_that_would_wait_are_rejected_and_not_counted(
    sign_in: SignIn, kim: Administrator, hasher: PasswordHasher
) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_RESERVATIONS):
            stack.enter_context(hasher.reserve())
        for _ in range(30):
            with pytest.raises(TooManyAttemptsError) as rejection:
                sign_in.authenticate("kim", PASSWORD, ADDRESS)
            assert rejection.value.retry_after == 2
    assert hasher.hash_count == 0
    assert sign_in.authenticate("kim", PASSWORD, ADDRESS) == kim


def test_deleted_and_reset_administrators_cannot_sign_in(
    sign_in: SignIn, administrators: AdministratorStore, kim: Administrator
) -> None:
    administrators.reset_password(kim.id, "another password")
    with pytest.raises(SignInError):
        sign_in.authenticate("kim", PASSWORD, ADDRESS)
    sign_in.authenticate("kim", "another password", ADDRESS)
    administrators.delete(kim.id)
    with pytest.raises(SignInError):
        sign_in.authenticate("kim", "another password", ADDRESS)


def test_password_of_a_signed_in_administrator_is_confirmed(sign_in: SignIn, kim: Administrator) -> None:
    sign_in.confirm_password(kim, PASSWORD, ADDRESS)
    with pytest.raises(SignInError, match=r"^wrong password$"):
        sign_in.confirm_password(kim, "a wrong password", ADDRESS)


def test_time_based_and_recovery_codes_are_accepted_once(
    sign_in: SignIn, administrators: AdministratorStore, kim: Administrator, clock: FakeClock
) -> None:
    secret = new_totp_secret()
    codes = administrators.enable_totp(kim.id, secret, current_code(secret, clock))
    for code in (current_code(secret, clock, 1), codes[0]):
        sign_in.verify_code(kim, code, ADDRESS)
        with pytest.raises(SignInError, match=r"^wrong code$"):
            sign_in.verify_code(kim, code, ADDRESS)


def test_codes_are_limited_even_if_they_are_right(
    sign_in: SignIn, administrators: AdministratorStore, kim: Administrator, clock: FakeClock
) -> None:
    secret = enable_totp(administrators, kim, clock)
    for _ in range(5):
        with pytest.raises(SignInError):
            sign_in.verify_code(kim, "wrong", ADDRESS)
    with pytest.raises(TooManyAttemptsError):
        sign_in.verify_code(kim, current_code(secret, clock, 1), "192.0.2.2")
    clock.advance(60)
    sign_in.verify_code(kim, current_code(secret, clock), ADDRESS)


def test_code_is_wrong_without_totp_and_after_a_deletion(
    sign_in: SignIn, administrators: AdministratorStore, kim: Administrator
) -> None:
    with pytest.raises(SignInError):
        sign_in.verify_code(kim, "123456", ADDRESS)
    administrators.delete(kim.id)
    with pytest.raises(SignInError):
        sign_in.verify_code(kim, "123456", ADDRESS)


def test_recovery_code_works_without_the_key_file(
    sign_in: SignIn,
    administrators: AdministratorStore,
    kim: Administrator,
    clock: FakeClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = new_totp_secret()
    codes = administrators.enable_totp(kim.id, secret, current_code(secret, clock))
    (tmp_path / "data" / "secrets.key").unlink()
    with pytest.raises(SignInError):
        sign_in.verify_code(kim, current_code(secret, clock, 1), ADDRESS)
    sign_in.verify_code(kim, codes[0], ADDRESS)
    assert "secrets.key, which this secret is encrypted with, is missing" in caplog.text


def test_failures_are_counted_without_unknown_names(
    sign_in: SignIn,
    store: Backend,
    kim: Administrator,
    operator: Administrator,
    login_log: LoginLog,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("kim", "kim", "operator", "my secret password"):
        attempt(sign_in, name, ADDRESS, "another secret")
    with pytest.raises(SignInError):
        sign_in.verify_code(kim, "000000", ADDRESS)
    login_log.close()
    failed = {"event": "sign_in.failed", "address": ADDRESS}
    events = [*events_of(store, "default"), *events_of(store, CONTROL)]
    assert [event for event in events if event["event"] == "sign_in.failed"] == [
        failed | {"administrator": kim.id, "count": 3},
        failed | {"administrator": operator.id, "count": 1},
        failed | {"count": 1},
    ]
    assert "secret" not in f"{events}{caplog.text}"


def test_failure_of_a_deleted_tenant_is_recorded(
    sign_in: SignIn, store: Backend, administrators: AdministratorStore, login_log: LoginLog
) -> None:
    TenantStore(store).create("north")
    lee = administrators.create("lee", "viewer", "north", PASSWORD)
    TenantStore(store).delete("north")
    with pytest.raises(SignInError):
        sign_in.verify_code(lee, "123456", ADDRESS)
    login_log.close()
    assert events_of(store, "north")[-1]["event"] == "sign_in.failed"
