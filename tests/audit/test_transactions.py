"""Changes of credentials and administrators: each one and its audit event are stored in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

import pyotp
import pytest

from backends import CONTROL, Backend, Record, StorageUnavailableError, Transaction
from backends.memory.backend import MemoryBackend
from chalk_flask.admins import AdministratorStore, SessionStore, SetupLink, new_totp_secret
from chalk_flask.admins.external import ExternalAdministrators
from chalk_flask.audit.events import COLLECTION
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.jwt.issuers import IssuerStore
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.notices import MailPreferences
from chalk_flask.oidc import Identity
from chalk_flask.permissions.scopes import ROSTER
from chalk_flask.settings.sign_in_rules import AccessRule
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants import TenantStore
from tests.support.clock import FakeClock
from tests.support.storage.audit_events import events_of_tenant

PASSWORD: Final = "correct horse battery"
IDENTITY: Final = Identity("https://login.example.org", "user-1", "example.org", "lee@example.org", {})
KEYS: Final = "https://tool.example.org/jwks"


class AuditRejectingStore(MemoryBackend):
    """Memory store that counts its write transactions. If `is_full`, it stores no audit event."""

    is_full = False
    writes = 0

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        self.writes += 1
        transaction = super().write(tenant, wait)
        put = transaction.put

        def put_unless_full(collection: str, records: Iterable[Record]) -> None:
            if collection == COLLECTION and self.is_full:
                raise StorageUnavailableError("the disk is full")
            put(collection, records)

        transaction.put = put_unless_full  # type: ignore[method-assign]  # one method of an existing class
        return transaction

    def content(self) -> dict[str, list[Record]]:
        """Return the records of the control tenant by collection."""
        with self.read(CONTROL) as control:
            return {name: list(control.scan(name)) for name in self.collections}


class Place:
    """Stores of credentials and administrators, and what the changes concern."""

    def __init__(self, store: Backend, cipher: SecretCipher) -> None:
        self.clock = FakeClock()
        self.tokens, self.issuers = TokenStore(store, self.clock), IssuerStore(store, self.clock)
        self.clients = ClientStore(store, self.clock, cipher)
        self.administrators, self.sessions = AdministratorStore(store, cipher, self.clock), SessionStore(store)
        self.external, self.link = ExternalAdministrators(store, self.clock), SetupLink(store, self.clock)
        self.setup = self.link.create() or ""
        self.token = self.tokens.create("a", [ROSTER])[1].id
        self.client = self.clients.create("a", [ROSTER])[1].id
        self.issuer = self.issuers.add("https://tool.example.org", "a", [ROSTER], jwks_url=KEYS).id

    def add_administrators(self) -> None:
        """Create administrators with and without one-time codes, a session of each, and an external one."""
        self.kim = self.administrators.create("kim", "owner", "default", PASSWORD)
        self.session, self.other = (self.sessions.create(self.kim, "192.0.2.1", None)[1] for _ in range(2))
        self.secret, self.new_secret = new_totp_secret(), new_totp_secret()
        robin = self.administrators.create("robin", "owner", "default", PASSWORD)
        self.code = self.administrators.enable_totp(robin.id, self.secret, pyotp.TOTP(self.secret).at(self.clock.now))
        self.robin = self.administrators.get(robin.id) or robin
        self.half_session = self.sessions.create(self.robin, "192.0.2.1", None)[1]
        self.external.save(IDENTITY, rule("default"), "1")
        self.sessions.create(self.external.save(IDENTITY, rule("default"), "1"), "192.0.2.1", None)

    def close(self) -> None:
        self.sessions.close()


def rule(tenant: str | None) -> AccessRule:
    return AccessRule("groups", "staff", tenant, "viewer")


def new_code(place: Place) -> str:
    return pyotp.TOTP(place.new_secret).at(place.clock.now)


CREDENTIALS: Final[dict[str, Callable[[Place], Any]]] = {
    "token.created": lambda at: at.tokens.create("b", [ROSTER]),
    "token.rotated": lambda at: at.tokens.rotate(at.token, timedelta(hours=1)),
    "token.revoked": lambda at: at.tokens.revoke(at.token),
    "client.created": lambda at: at.clients.create("b", [ROSTER], oauth1=True),
    "client.rotated": lambda at: at.clients.rotate(at.client, timedelta(hours=1)),
    "client.revoked": lambda at: at.clients.revoke(at.client),
    "issuer.added": lambda at: at.issuers.add("https://tool.example.org", "b", [ROSTER], jwks_url=KEYS),
    "issuer.removed": lambda at: at.issuers.remove(at.issuer),
    "administrator.created": lambda at: at.link.redeem(at.setup, "kim", PASSWORD),
}
ADMINISTRATORS: Final[dict[str, Callable[[Place], Any]]] = {
    "administrator.created": lambda at: at.administrators.create("alex", "viewer", "default", PASSWORD),
    "administrator.created external": lambda at: at.external.save(
        Identity("https://login.example.org", "user-2", None, "", {}), rule("default"), "1"
    ),
    "administrator.changed access": lambda at: at.external.save(IDENTITY, rule(None), "1"),
    "administrator.changed reset": lambda at: at.administrators.reset_password(at.kim.id, PASSWORD[::-1]),
    "administrator.changed password": lambda at: at.administrators.change_password(at.kim.id, PASSWORD[::-1]),
    "administrator.changed role": lambda at: at.administrators.set_role(at.kim.id, "viewer"),
    "administrator.changed mail": lambda at: at.administrators.set_mail(at.kim.id, MailPreferences("a@example.org")),
    "administrator.changed totp": lambda at: at.administrators.enable_totp(at.kim.id, at.new_secret, new_code(at)),
    "administrator.changed no totp": lambda at: at.administrators.disable_totp(at.robin.id),
    "administrator.changed codes": lambda at: at.administrators.new_recovery_codes(at.robin.id),
    "administrator.changed code": lambda at: at.administrators.use_recovery_code(at.robin.id, at.code[0]),
    "administrator.deleted": lambda at: at.administrators.delete(at.kim.id),
    "session.started": lambda at: at.sessions.create(at.kim, "192.0.2.1", None),
    "session.started code": lambda at: at.sessions.complete_totp(at.half_session),
    "session.ended": lambda at: at.sessions.end(at.session.id_hash),
    "session.ended others": lambda at: at.sessions.end_all(at.kim.id, at.session.id_hash),
    "session.ended external": lambda at: at.external.end_sessions(IDENTITY),
}


@pytest.fixture
def rejecting_store() -> Iterator[AuditRejectingStore]:
    with AuditRejectingStore.open("memory:", COLLECTIONS) as store:
        yield store


@pytest.fixture
def place(rejecting_store: AuditRejectingStore, cipher: SecretCipher) -> Iterator[Place]:
    place = Place(rejecting_store, cipher)
    yield place
    place.close()


@pytest.mark.parametrize("change", CREDENTIALS)
def test_change_of_a_credential_is_stored_with_its_event(
    rejecting_store: AuditRejectingStore, place: Place, change: str
) -> None:
    check_one_transaction(rejecting_store, place, change, CREDENTIALS[change])


@pytest.mark.parametrize("change", ADMINISTRATORS)
def test_change_of_an_administrator_is_stored_with_its_event(
    rejecting_store: AuditRejectingStore, place: Place, change: str
) -> None:
    place.add_administrators()
    check_one_transaction(rejecting_store, place, change, ADMINISTRATORS[change])


def check_one_transaction(
    store: AuditRejectingStore, place: Place, name: str, change: Callable[[Place], object]
) -> None:
    """Let a change fail because its event cannot be stored, and then succeed. It is one write transaction."""
    before = store.content()
    store.is_full = True
    with pytest.raises(StorageUnavailableError, match="the disk is full"):
        change(place)
    assert store.content() == before, "nothing is stored without the event"
    store.is_full, store.writes = False, 0
    change(place)
    added = {record.values["event"] for record in store.content()[COLLECTION] if record not in before[COLLECTION]}
    assert (store.writes, added) == (1, {name.split()[0]})
    assert store.content() != before | {COLLECTION: store.content()[COLLECTION]}, "the change is stored"


@pytest.mark.every_backend
def test_each_change_of_a_credential_is_recorded_once(store: Backend) -> None:
    tokens, clients, issuers = TokenStore(store), ClientStore(store), IssuerStore(store)
    secret_token, token = tokens.create("a reader", [ROSTER])
    tokens.revoke(token.id)
    tokens.revoke(token.id)
    secret, client = clients.create("a client", [ROSTER])
    clients.rotate(client.id, timedelta(0))
    clients.revoke(client.id)
    clients.revoke(client.id)
    issuer = issuers.add("https://tool.example.org", "roster", [ROSTER], jwks_url=KEYS)
    issuers.remove(issuer.id)
    events = events_of_tenant(store, "default")
    assert [(event["event"], event["id"], event["label"]) for event in events] == [
        ("token.created", token.id, "a reader"),
        ("token.revoked", token.id, "a reader"),
        ("client.created", client.id, "a client"),
        ("client.rotated", client.id, "a client"),
        ("client.revoked", client.id, "a client"),
        ("issuer.added", issuer.id, ""),
        ("issuer.removed", issuer.id, ""),
    ]
    assert events[0]["scopes"] == [ROSTER]
    assert str(secret_token) not in str(events)
    assert str(secret) not in str(events)


@pytest.mark.every_backend
def test_deleted_tenant_takes_the_events_of_its_credentials_along(store: Backend) -> None:
    tenants, tokens = TenantStore(store), TokenStore(store)
    for tenant in ("north", "south"):
        tenants.create(tenant)
        for _ in range(3):
            tokens.create("a", [ROSTER], tenant)
    tenants.delete("north")
    assert [event["event"] for event in events_of_tenant(store, "north")] == ["tenant.created", "tenant.deleted"]
    assert len(events_of_tenant(store, "south")) == 4
