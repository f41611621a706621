"""Sign-in with an identity provider: access by the settings, sessions that end, limits, and what is recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backends import CONTROL, Backend
from chalk_flask.admins import (
    Administrator,
    AdministratorError,
    AdministratorStore,
    SessionStore,
    SignIn,
    SignInError,
    SignInThrottle,
    TooManyAttemptsError,
    new_totp_secret,
)
from chalk_flask.admins.external import ExternalAdministrators
from chalk_flask.admins.oidc_sign_in import MAX_EXCHANGES, AccessDeniedError, OidcSignIn
from chalk_flask.admins.passwords import PasswordHasher
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.oidc import OidcClient, ProviderError, SignInCanceledError
from chalk_flask.tenants.store import TenantStore, find_audit_tenant
from tests.admins.conftest import PASSWORD, events_of
from tests.oidc.conftest import settings_for
from tests.support.clock import FakeClock
from tests.support.oidc.fake_provider import DISCOVERY, Answer, FakeProvider, serve_fake_provider

ADDRESS = "192.0.2.1"
GROUPS = "groups:ops=*:owner, groups:north=north:editor, groups:staff=default:viewer"

NewSignIn = Callable[..., OidcSignIn]


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[FakeProvider]:
    with serve_fake_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: FakeProvider) -> FakeProvider:
    shared_provider.reset()
    return shared_provider


@pytest.fixture
def login_log(store: Backend) -> Iterator[LoginLog]:
    log = LoginLog(store, find_audit_tenant, interval=3600)
    yield log
    log.close()


@pytest.fixture
def new_sign_in(store: Backend, provider: FakeProvider, login_log: LoginLog, clock: FakeClock) -> NewSignIn:
    """Function that returns a sign-in with these access rules and domains, as after a restart of the service."""

    def create(rules: str = GROUPS, domains: str = "") -> OidcSignIn:
        client = OidcClient(settings_for(provider, rules, domains))
        throttle = SignInThrottle(clock.time)
        return OidcSignIn(client, ExternalAdministrators(store, clock), login_log, throttle)

    return create


def complete(oidc: OidcSignIn, provider: FakeProvider, **claims: Any) -> Administrator:
    """Sign in with an account that has these claims."""
    url, pending = oidc.begin("https://roster.example.org/login/oidc/callback", "")
    return oidc.complete(pending, provider.approve(url, **claims), ADDRESS)


@pytest.mark.every_backend
def test_first_sign_in_creates_the_administrator(
    new_sign_in: NewSignIn, provider: FakeProvider, administrators: AdministratorStore, store: Backend
) -> None:
    signed_in = complete(new_sign_in(), provider, groups=["staff"], email="a@example.org", email_verified=True)
    assert (signed_in.tenant, signed_in.role, signed_in.name) == ("default", "viewer", "a@example.org")
    assert administrators.get(signed_in.id) == signed_in
    assert signed_in.to_dict()["issuer"] == provider.issuer
    assert "user-1" not in str(signed_in.to_dict())
    assert complete(new_sign_in(), provider, groups=["staff"]).id == signed_in.id
    assert len(administrators.list()) == 1
    assert events_of(store, "default") == [
        {"event": "administrator.created", "id": signed_in.id, "role": "viewer", "by": "identity provider"}
    ]


def test_accounts_with_other_subjects_are_other_administrators(new_sign_in: NewSignIn, provider: FakeProvider) -> None:
    first = complete(new_sign_in(), provider, groups=["ops"], email="a@example.org", email_verified=True)
    second = complete(new_sign_in(), provider, groups=["ops"], email="a@example.org", email_verified=True, sub="2")
    assert first.id != second.id
    assert (first.name, second.name) == ("a@example.org", f"oidc-{second.id}")


def test_account_never_becomes_a_local_administrator(
    new_sign_in: NewSignIn, provider: FakeProvider, administrators: AdministratorStore
) -> None:
    local = administrators.create("a@example.org", "owner", None, PASSWORD)
    external = complete(new_sign_in(), provider, groups=["staff"], email="a@example.org", email_verified=True)
    assert external.id != local.id
    assert external.role == "viewer"
    assert administrators.find("a@example.org") == local


def test_first_rule_that_matches_decides(new_sign_in: NewSignIn, provider: FakeProvider) -> None:
    signed_in = complete(new_sign_in(), provider, groups=["staff", "ops"])
    assert (signed_in.tenant, signed_in.role) == (None, "owner")


def test_changed_role_applies_at_the_next_sign_in(
    new_sign_in: NewSignIn, provider: FakeProvider, sessions: SessionStore, store: Backend
) -> None:
    rules = "groups:leads=default:owner, groups:staff=default:viewer"
    first = complete(new_sign_in(rules), provider, groups=["staff"])
    secret, _ = sessions.create(first, ADDRESS, None)
    second = complete(new_sign_in(rules), provider, groups=["leads"])
    assert (first.id, first.role, second.role) == (second.id, "viewer", "owner")
    assert sessions.find(secret) is not None
    event = {"event": "administrator.changed", "id": first.id, "change": "access", "role": "owner"}
    assert {**event, "by": "identity provider"} in events_of(store, "default")


def test_changed_tenant_ends_sessions_and_is_recorded_in_both(
    new_sign_in: NewSignIn, provider: FakeProvider, sessions: SessionStore, store: Backend
) -> None:
    TenantStore(store).create("north")
    secret, _ = sessions.create(complete(new_sign_in(), provider, groups=["ops"]), ADDRESS, None)
    moved = complete(new_sign_in(), provider, groups=["north"])
    assert moved.tenant == "north"
    assert sessions.find(secret) is None
    for tenant in (CONTROL, "north"):
        assert "access" in [event.get("change") for event in events_of(store, tenant)]


def test_account_without_access_is_denied_and_loses_its_sessions(
    new_sign_in: NewSignIn, provider: FakeProvider, sessions: SessionStore, login_log: LoginLog, store: Backend
) -> None:
    first = complete(new_sign_in(), provider, groups=["staff"])
    secret, _ = sessions.create(first, ADDRESS, None)
    with pytest.raises(AccessDeniedError) as caught:
        complete(new_sign_in(), provider, groups=["guests"])
    assert caught.value.subject == "user-1"
    assert sessions.find(secret) is None
    login_log.close()
    events = events_of(store, "default")
    assert {"event": "session.ended", "administrator": first.id, "count": 1} in events
    assert {"event": "sign_in.failed", "administrator": first.id, "address": ADDRESS, "count": 1} in events


def test_unknown_account_without_access_is_not_stored(
    new_sign_in: NewSignIn,
    provider: FakeProvider,
    administrators: AdministratorStore,
    login_log: LoginLog,
    store: Backend,
) -> None:
    with pytest.raises(AccessDeniedError):
        complete(new_sign_in(), provider)
    assert administrators.list() == []
    login_log.close()
    assert events_of(store, CONTROL) == [{"event": "sign_in.failed", "address": ADDRESS, "count": 1}]


@pytest.mark.parametrize(
    ("claims", "is_allowed"),
    [
        ({"email": "a@example.org", "email_verified": True}, True),
        ({"email": "a@EXAMPLE.ORG", "email_verified": True}, True),
        ({"email": "a@example.org", "email_verified": False}, False),
        ({"email": "a@other.example", "email_verified": True}, False),
        ({"email": "a@example.org.other.example", "email_verified": True}, False),
        ({"email": "a@example.org"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_only_verified_addresses_of_the_domains_are_accepted(
    claims: dict[str, Any], is_allowed: bool, new_sign_in: NewSignIn, provider: FakeProvider
) -> None:
    oidc = new_sign_in("groups:ops=*:owner", "example.org,west.example.org")
    if is_allowed:
        assert complete(oidc, provider, groups=["ops"], **claims).is_operator
    else:
        with pytest.raises(AccessDeniedError):
            complete(oidc, provider, groups=["ops"], **claims)


def test_rule_with_an_unknown_tenant_gives_no_access(
    new_sign_in: NewSignIn, provider: FakeProvider, administrators: AdministratorStore, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(AccessDeniedError):
        complete(new_sign_in(), provider, groups=["north"])
    assert administrators.list() == []
    assert "'north'" in caplog.text
    assert "oidc_access" in caplog.text


def test_access_ends_with_the_settings_that_gave_it(new_sign_in: NewSignIn, provider: FakeProvider) -> None:
    signed_in = complete(new_sign_in(), provider, groups=["ops"])
    assert new_sign_in(GROUPS).accepts(signed_in)
    for rules, domains in (
        ("groups:staff=default:viewer", ""),
        (GROUPS, "example.org"),
        (f"sub:x=*:owner,{GROUPS}", ""),
    ):
        assert not new_sign_in(rules, domains).accepts(signed_in)


def test_name_follows_the_account_unless_it_is_taken(
    new_sign_in: NewSignIn, provider: FakeProvider, administrators: AdministratorStore
) -> None:
    administrators.create("taken@example.org", "viewer", "default", PASSWORD)
    names = []
    for email in ("new@example.org", "taken@example.org", "other@example.org", "x" * 60 + "@example.org"):
        names.append(complete(new_sign_in(), provider, groups=["ops"], email=email, email_verified=True).name)
    assert names == ["new@example.org", "new@example.org", "other@example.org", "other@example.org"]


def test_external_administrator_has_no_password_to_guess(
    new_sign_in: NewSignIn, provider: FakeProvider, administrators: AdministratorStore, login_log: LoginLog
) -> None:
    external = complete(new_sign_in(), provider, groups=["ops"], email="a@example.org", email_verified=True)
    hasher = PasswordHasher()
    sign_in = SignIn(administrators, login_log, hasher=hasher)
    for password in ("", PASSWORD, external.password_hash):
        with pytest.raises(SignInError):
            sign_in.authenticate("a@example.org", password, ADDRESS)
    assert hasher.hash_count == 3  # it takes the time of a hash


def test_account_of_an_external_administrator_is_not_changed_here(
    new_sign_in: NewSignIn, provider: FakeProvider, administrators: AdministratorStore
) -> None:
    external = complete(new_sign_in(), provider, groups=["ops"])
    changes: list[Callable[[], object]] = [
        lambda: administrators.reset_password(external.id, PASSWORD),
        lambda: administrators.change_password(external.id, PASSWORD),
        lambda: administrators.set_role(external.id, "viewer"),
        lambda: administrators.enable_totp(external.id, new_totp_secret(), "123456"),
    ]
    for change in changes:
        with pytest.raises(AdministratorError, match="identity provider"):
            change()
    assert administrators.get(external.id) == external


def test_last_owner_with_a_password_stays_beside_external_owners(
    new_sign_in: NewSignIn, provider: FakeProvider, administrators: AdministratorStore, operator: Administrator
) -> None:
    external = complete(new_sign_in(), provider, groups=["ops"])
    with pytest.raises(AdministratorError, match="last operator"):
        administrators.delete(operator.id)
    with pytest.raises(AdministratorError, match="last operator"):
        administrators.set_role(operator.id, "viewer")
    assert administrators.delete(external.id) == external


def test_attempts_of_an_address_are_limited(new_sign_in: NewSignIn, provider: FakeProvider, clock: FakeClock) -> None:
    oidc = new_sign_in()
    for _ in range(20):
        with pytest.raises(AccessDeniedError):
            complete(oidc, provider)
    with pytest.raises(TooManyAttemptsError):
        complete(oidc, provider, groups=["ops"])
    clock.advance(60)
    assert complete(oidc, provider, groups=["ops"]).is_operator


def test_requests_to_the_provider_are_few_at_once(new_sign_in: NewSignIn, provider: FakeProvider) -> None:
    oidc = new_sign_in()
    for _ in range(MAX_EXCHANGES):
        assert oidc._exchanges.acquire(blocking=False)
    with pytest.raises(TooManyAttemptsError):
        oidc.begin("https://roster.example.org/", "")
    for _ in range(MAX_EXCHANGES):
        oidc._exchanges.release()
    assert oidc.begin("https://roster.example.org/", "")[0]


def test_failure_of_the_provider_is_logged_once_and_recorded(
    new_sign_in: NewSignIn, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    oidc = new_sign_in()
    provider.answers[DISCOVERY] = Answer({}, 503)
    for _ in range(3):
        with pytest.raises(ProviderError):
            oidc.begin("https://roster.example.org/", "")
    [warning] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert provider.issuer in warning.getMessage()
    assert "503" in warning.getMessage()


def test_forged_response_is_recorded_and_a_canceled_one_is_not(
    new_sign_in: NewSignIn, provider: FakeProvider, login_log: LoginLog, store: Backend
) -> None:
    oidc = new_sign_in()
    with pytest.raises(ProviderError):
        complete(oidc, provider, groups=["ops"], nonce="another")
    url, pending = oidc.begin("https://roster.example.org/", "")
    with pytest.raises(SignInCanceledError):
        oidc.complete(pending, provider.approve(url) | {"error": "access_denied"}, ADDRESS)
    login_log.close()
    assert events_of(store, CONTROL) == [{"event": "sign_in.failed", "address": ADDRESS, "count": 1}]
