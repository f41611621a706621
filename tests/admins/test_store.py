"""Administrators: created, changed and deleted, with audit events, for every backend."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backends import CONTROL, Backend, open_store
from chalk_flask.admins import Administrator, AdministratorError, AdministratorStore, SessionStore, new_totp_secret
from chalk_flask.admins.passwords import PASSWORD_HASHER
from chalk_flask.auth.secrets import SecretCipher, SecretUnavailableError
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import TenantStore
from tests.admins.conftest import PASSWORD, current_code, enable_totp, events_of
from tests.support.clock import FakeClock


@pytest.mark.every_backend
def test_created_administrator_is_found_by_id_and_name(administrators: AdministratorStore, kim: Administrator) -> None:
    assert administrators.get(kim.id) == administrators.find("KIM ") == kim
    assert (kim.name, kim.role, kim.tenant, kim.is_operator, kim.uses_totp) == ("kim", "owner", "default", False, False)
    assert PASSWORD_HASHER.verify(kim.password_hash, PASSWORD)
    assert (administrators.get("unknown"), administrators.find("unknown")) == (None, None)


def test_list_contains_the_administrators_of_a_tenant_by_name(
    administrators: AdministratorStore, store: Backend, kim: Administrator, operator: Administrator
) -> None:
    TenantStore(store).create("north")
    ada = administrators.create("ada", "viewer", "north", PASSWORD)
    assert administrators.list() == [ada, kim, operator]
    assert administrators.list("north") == [ada]


def test_store_contains_no_password(administrators: AdministratorStore, store: Backend, kim: Administrator) -> None:
    with store.read(CONTROL) as control:
        bodies = b"".join(body for name in store.collections for _, body, _ in control.scan(name))
    assert kim.name.encode() in bodies
    assert PASSWORD.encode() not in bodies


@pytest.mark.parametrize(
    ("name", "role", "tenant", "password", "message"),
    [
        ("KIM", "owner", "default", PASSWORD, "there is an administrator with this name already"),
        ("x", "owner", "default", PASSWORD, "invalid name of 1 characters"),
        ("lee", "king", "default", PASSWORD, "unknown role 'king': use viewer, editor, owner"),
        ("lee", "owner", "north", PASSWORD, "there is no tenant 'north'"),
        ("lee", "owner", CONTROL, PASSWORD, "there is no tenant '_control'"),
        ("lee", "owner", None, "short", "invalid password of 5 characters: use 12 to 256"),
    ],
)
def test_invalid_administrator_is_rejected(
    administrators: AdministratorStore,
    kim: Administrator,
    name: str,
    role: str,
    tenant: str,
    password: str,
    message: str,
) -> None:
    with pytest.raises(AdministratorError, match=message):
        administrators.create(name, role, tenant, password)  # type: ignore[arg-type]  # roles vary by test
    assert administrators.list() == [kim]


@pytest.mark.every_backend
def test_reset_sets_a_password_and_ends_all_sessions(
    administrators: AdministratorStore, sessions: SessionStore, kim: Administrator, clock: FakeClock
) -> None:
    secret, _ = sessions.create(kim, "192.0.2.1", None)
    clock.advance(60)
    changed = administrators.reset_password(kim.id, "another password")
    assert administrators.get(kim.id) == changed
    assert changed.password_changed == clock.now
    assert PASSWORD_HASHER.verify(changed.password_hash, "another password")
    assert sessions.find(secret) is None


def test_own_password_change_keeps_the_session_of_the_request(
    administrators: AdministratorStore, sessions: SessionStore, kim: Administrator
) -> None:
    secret, session = sessions.create(kim, "192.0.2.1", None)
    other, _ = sessions.create(kim, "192.0.2.2", None)
    administrators.change_password(kim.id, "another password", except_hash=session.id_hash)
    assert sessions.find(secret) is not None
    assert sessions.find(other) is None


def test_rejected_password_changes_nothing(
    administrators: AdministratorStore, sessions: SessionStore, kim: Administrator
) -> None:
    secret, _ = sessions.create(kim, "192.0.2.1", None)
    before = administrators.get(kim.id)
    for change in (administrators.reset_password, administrators.change_password):
        with pytest.raises(AdministratorError, match="use 12 to 256"):
            change(kim.id, "short")
    assert administrators.get(kim.id) == before
    assert sessions.find(secret) is not None


@pytest.mark.every_backend
def test_deleted_administrator_and_sessions_are_gone(
    administrators: AdministratorStore, sessions: SessionStore, kim: Administrator, store: Backend
) -> None:
    secret, _ = sessions.create(kim, "192.0.2.1", None)
    administrators.delete(kim.id)
    assert (administrators.get(kim.id), sessions.find(secret)) == (None, None)
    with store.read(CONTROL) as control:
        assert not control.exists("administrators")
        assert not control.exists("sessions")


def test_last_owner_operator_stays_one(
    administrators: AdministratorStore, kim: Administrator, operator: Administrator
) -> None:
    administrators.create("second", "editor", None, PASSWORD)
    with pytest.raises(AdministratorError, match="cannot be deleted: create another one first"):
        administrators.delete(operator.id)
    with pytest.raises(AdministratorError, match="cannot get another role"):
        administrators.set_role(operator.id, "editor")
    administrators.set_role(operator.id, "owner")
    other = administrators.create("third", "owner", None, PASSWORD)
    administrators.set_role(operator.id, "viewer")
    administrators.delete(operator.id)
    with pytest.raises(AdministratorError, match="last operator"):
        administrators.delete(other.id)
    administrators.delete(kim.id)


@pytest.mark.parametrize(
    "call",
    [
        lambda administrators: administrators.reset_password("x", PASSWORD),
        lambda administrators: administrators.change_password("x", PASSWORD),
        lambda administrators: administrators.set_role("x", "viewer"),
        lambda administrators: administrators.delete("x"),
        lambda administrators: administrators.disable_totp("x"),
        lambda administrators: administrators.enable_totp("x", new_totp_secret(), "123456"),
        lambda administrators: administrators.new_recovery_codes("x"),
        lambda administrators: administrators.use_totp_code("x", "123456"),
        lambda administrators: administrators.use_recovery_code("x", "code"),
    ],
)
def test_change_of_an_unknown_administrator_is_rejected(
    administrators: AdministratorStore, call: Callable[[AdministratorStore], object]
) -> None:
    with pytest.raises(AdministratorError, match="there is no such administrator"):
        call(administrators)


@pytest.mark.on_backend("sqlite")
def test_totp_code_is_accepted_once_over_all_processes(
    administrators: AdministratorStore, kim: Administrator, clock: FakeClock, cipher: SecretCipher, storage: str
) -> None:
    secret = enable_totp(administrators, kim, clock)
    assert not administrators.use_totp_code(kim.id, current_code(secret, clock))
    code = current_code(secret, clock, 1)
    with open_store(storage, COLLECTIONS) as opened:
        other = AdministratorStore(opened, cipher, clock)
        assert other.use_totp_code(kim.id, code)
        assert not administrators.use_totp_code(kim.id, code)
        clock.advance(60)
        assert administrators.use_totp_code(kim.id, current_code(secret, clock))
        assert not other.use_totp_code(kim.id, current_code(secret, clock))


def test_totp_secret_is_encrypted(
    administrators: AdministratorStore, store: Backend, kim: Administrator, clock: FakeClock
) -> None:
    secret = enable_totp(administrators, kim, clock)
    changed = administrators.get(kim.id)
    assert changed is not None
    assert changed.uses_totp
    with store.read(CONTROL) as control:
        assert not any(secret.encode() in body for _, body, _ in control.scan("administrators"))


@pytest.mark.parametrize(("secret", "code"), [(None, "000000"), ("not base 32", "123456"), ("", "")])
def test_totp_requires_a_code_of_the_secret(
    administrators: AdministratorStore, kim: Administrator, secret: str | None, code: str
) -> None:
    with pytest.raises(AdministratorError, match="the code is wrong"):
        administrators.enable_totp(kim.id, secret or "A" * 32, code)
    assert administrators.get(kim.id) == kim


def test_totp_is_turned_off_by_its_owner_and_by_a_reset(
    administrators: AdministratorStore, kim: Administrator, clock: FakeClock
) -> None:
    ways: tuple[Callable[[], Administrator], ...] = (
        lambda: administrators.disable_totp(kim.id),
        lambda: administrators.reset_password(kim.id, PASSWORD, disable_totp=True),
    )
    for turn_off in ways:
        secret = enable_totp(administrators, kim, clock)
        with pytest.raises(AdministratorError, match="required already"):
            enable_totp(administrators, kim, clock)
        changed = turn_off()
        assert (changed.uses_totp, changed.recovery_codes, changed.totp_last_step) == (False, (), None)
        assert not administrators.use_totp_code(kim.id, current_code(secret, clock, 1))
    secret = enable_totp(administrators, kim, clock)
    assert administrators.reset_password(kim.id, PASSWORD).uses_totp


def test_recovery_code_is_used_up(
    administrators: AdministratorStore, kim: Administrator, clock: FakeClock, store: Backend
) -> None:
    secret = new_totp_secret()
    codes = administrators.enable_totp(kim.id, secret, current_code(secret, clock))
    assert administrators.use_recovery_code(kim.id, codes[3].upper())
    assert not administrators.use_recovery_code(kim.id, codes[3])
    with store.read(CONTROL) as control:
        assert not any(codes[0].encode() in body for _, body, _ in control.scan("administrators"))
    new = administrators.new_recovery_codes(kim.id)
    assert not administrators.use_recovery_code(kim.id, codes[0])
    assert all(administrators.use_recovery_code(kim.id, code) for code in new)


def test_recovery_codes_require_totp(administrators: AdministratorStore, kim: Administrator) -> None:
    with pytest.raises(AdministratorError, match="turn them on first"):
        administrators.new_recovery_codes(kim.id)


def test_lost_key_is_reported_and_not_replaced(
    administrators: AdministratorStore, kim: Administrator, operator: Administrator, clock: FakeClock, tmp_path: Path
) -> None:
    secret = enable_totp(administrators, kim, clock)
    (tmp_path / "data" / "secrets.key").unlink()
    with pytest.raises(SecretUnavailableError, match="is missing: restore it"):
        administrators.use_totp_code(kim.id, current_code(secret, clock, 1))
    with pytest.raises(AdministratorError, match="is missing: restore it"):
        enable_totp(administrators, operator, clock)
    assert not (tmp_path / "data" / "secrets.key").exists()


def test_changes_are_audit_events_of_the_tenant_without_names(
    administrators: AdministratorStore, store: Backend, operator: Administrator, clock: FakeClock
) -> None:
    lee = administrators.create("lee", "viewer", "default", PASSWORD, by=operator.id)
    for change in (
        lambda: administrators.set_role(lee.id, "editor", by=operator.id),
        lambda: administrators.reset_password(lee.id, PASSWORD, by="root"),
        lambda: enable_totp(administrators, lee, clock),
        lambda: administrators.disable_totp(lee.id),
        lambda: administrators.delete(lee.id, by=operator.id),
    ):
        clock.advance(1)
        change()
    changed = {"event": "administrator.changed", "id": lee.id}
    assert events_of(store, "default") == [
        {"event": "administrator.created", "id": lee.id, "role": "viewer", "by": operator.id},
        changed | {"change": "role", "role": "editor", "by": operator.id},
        changed | {"change": "password", "totp": False, "by": "root"},
        changed | {"change": "totp", "totp": True, "by": lee.id},
        changed | {"change": "totp", "totp": False, "by": lee.id},
        {"event": "administrator.deleted", "id": lee.id, "by": operator.id},
    ]
    assert events_of(store, CONTROL) == [{"event": "administrator.created", "id": operator.id, "role": "owner"}]
    assert '"lee"' not in json.dumps([*events_of(store, "default"), *events_of(store, CONTROL)])


@pytest.mark.every_backend
def test_tenant_is_deleted_with_its_administrators_and_sessions(
    administrators: AdministratorStore, sessions: SessionStore, store: Backend, kim: Administrator
) -> None:
    tenants = TenantStore(store)
    tenants.create("north")
    lee = administrators.create("lee", "viewer", "north", PASSWORD)
    secret, _ = sessions.create(lee, "192.0.2.1", None)
    other, _ = sessions.create(kim, "192.0.2.1", None)
    assert tenants.summarize("north").to_dict()["administrators"] == 1
    deleted = tenants.delete("north").to_dict()["erased"]
    assert deleted["administrators"] == 1
    assert "sessions" not in deleted
    assert (administrators.get(lee.id), sessions.find(secret)) == (None, None)
    assert sessions.find(other) is not None
    with store.read(CONTROL) as control:
        assert len(list(control.keys("sessions"))) == 1


def test_cached_administrator_is_read_again_after_a_change(
    administrators: AdministratorStore, kim: Administrator, store: Backend, cipher: SecretCipher
) -> None:
    assert administrators.get(kim.id) == kim
    AdministratorStore(store, cipher).set_role(kim.id, "viewer")
    changed = administrators.get(kim.id)
    assert changed is not None
    assert changed.role == "viewer"


@pytest.mark.every_backend
def test_exists_is_true_after_the_first_administrator(administrators: AdministratorStore) -> None:
    assert not administrators.exists()
    administrators.create("kim", "viewer", "default", PASSWORD)
    assert administrators.exists()
