"""Rotation of the key of encrypted secrets: all stay readable, at every step, and the former key decrypts nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import orjson
import pyotp
import pytest
from filelock import FileLock

from backends import CONTROL, Backend, Record, open_store
from chalk_flask.admins import AdministratorStore, new_totp_secret
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.secrets import SecretCipher, SecretUnavailableError, rotate_secrets
from chalk_flask.auth.secrets.encryption import SECRETS_KEY_FILE
from chalk_flask.auth.secrets.rotation import SECRETS
from chalk_flask.permissions.scopes import ROSTER
from chalk_flask.sources import SourceRequest, SourceStore
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants import TenantStore
from chalk_flask.webhooks.admin import WebhookRequest, WebhookStore
from chalk_flask.webhooks.http import SsrfGuard
from tests.support.clock import FakeClock
from tests.support.storage.audit_events import events_of_tenant


class StoppedError(Exception):
    """End of a rotation at a step, as by a kill."""


@dataclass
class Place:
    """Store with a secret of each kind, and the folder with its key."""

    store: Backend
    data: Path

    def __post_init__(self) -> None:
        clock, cipher = FakeClock(), SecretCipher(self.data)
        TenantStore(self.store).create("north")
        webhooks = WebhookStore(self.store, cipher, SsrfGuard(["127.0.0.1"]), clock)
        webhook = webhooks.create("default", WebhookRequest(url="http://127.0.0.1/", root="https://roster.example.org"))
        webhooks.rotate("default", webhook.subscription.id, timedelta(hours=1))
        request = SourceRequest(name="sis", url="https://sis.example.org", auth="bearer", secret="a token")
        SourceStore(self.store, cipher).add("north", request)
        self.clients = ClientStore(self.store, clock, cipher)
        self.clients.create("a", [ROSTER], oauth1=True)
        administrators, secret = AdministratorStore(self.store, cipher, clock), new_totp_secret()
        kim = administrators.create("kim", "owner", None, "correct horse battery")
        administrators.enable_totp(kim.id, secret, pyotp.TOTP(secret).at(clock.now))

    def ciphertexts(self) -> list[str]:
        """Return all members of stored records that look like encrypted texts, in a fixed order."""
        found = []
        for tenant in sorted(self.store.tenants()):
            with self.store.read(tenant) as snapshot:
                for collection in COLLECTIONS:
                    for record in snapshot.scan(collection.name):
                        found += [text for text in record.body.decode().split('"') if text.startswith("gAAAA")]
        return found

    def secrets(self) -> list[str]:
        """Return all secrets, decrypted with the key file."""
        return list(map(SecretCipher(self.data).decrypt, self.ciphertexts()))

    def keys(self) -> list[str]:
        """Return the lines of the key file."""
        return (self.data / SECRETS_KEY_FILE).read_text().split()

    def rotate(self, stop_at: int | None = None) -> tuple[dict[str, int], bool]:
        """Rotate, up to a step, and return the counts, and if it was continued."""
        steps = itertools.count()

        def on_step() -> None:
            if next(steps) == stop_at:
                raise StoppedError

        result = rotate_secrets(self.store, self.data, on_step, grace_seconds=0)
        return dict(result.counts), result.is_continued


@pytest.fixture
def place(storage: str, tmp_path: Path) -> Iterator[Place]:
    with open_store(storage, COLLECTIONS) as store:
        yield Place(store, tmp_path / "data")


@pytest.mark.every_backend
def test_all_secrets_are_encrypted_with_the_new_key_alone(place: Place) -> None:
    former, secrets, ciphertexts = place.keys(), place.secrets(), place.ciphertexts()
    assert place.rotate() == ({"webhooks": 2, "sources": 1, "clients": 1, "administrators": 1}, False)
    assert place.secrets() == secrets
    assert len(place.keys()) == 1
    assert place.keys() != former
    assert not set(ciphertexts).intersection(place.ciphertexts())
    event = events_of_tenant(place.store, CONTROL)[-1]
    assert (event["event"], event["webhooks"], event["administrators"]) == ("secrets.rotated", 2, 1)


@pytest.mark.parametrize("step", range(4))
def test_rotation_that_stops_at_a_step_is_completed_by_the_next(place: Place, step: int) -> None:
    secrets = place.secrets()
    with pytest.raises(StoppedError):
        place.rotate(step)
    assert place.secrets() == secrets, "all are readable after the kill"
    assert place.clients.create("b", [ROSTER], oauth1=True)[0] in place.secrets(), "others can be stored"
    newest = place.keys()[0]
    _, is_continued = place.rotate()
    assert (is_continued, place.keys()) == (True, [newest])
    assert len(place.secrets()) == len(secrets) + 1


def test_rotation_has_four_steps(place: Place) -> None:
    place.rotate(4)
    assert len(place.keys()) == 1


def test_secret_that_is_stored_during_the_rotation_stays_readable(place: Place) -> None:
    stored = []
    rotate_secrets(
        place.store,
        place.data,
        lambda: stored.append(place.clients.create("b", [ROSTER], oauth1=True)[0]),
        grace_seconds=0,
    )
    assert len(stored) == 4
    assert set(stored) < set(place.secrets())


def test_secret_of_another_key_changes_nothing_and_is_named(place: Place) -> None:
    encrypted = SecretCipher(place.data.parent / "other").encrypt("x")
    with place.store.write("north") as transaction:
        [record] = transaction.scan("sources")
        body = orjson.dumps({**orjson.loads(record.body), "sealed": encrypted})
        transaction.put("sources", [Record(record.key, body, record.values)])
    before = place.keys(), place.ciphertexts()
    with pytest.raises(SecretUnavailableError, match="nothing was changed, because of sis in sources of tenant north"):
        place.rotate()
    assert (place.keys(), place.ciphertexts()) == before


def test_secret_of_a_revoked_client_does_not_matter(place: Place) -> None:
    _, client = place.clients.create("b", [ROSTER], oauth1=True)
    place.clients.revoke(client.id)
    counts, _ = place.rotate()
    assert counts["clients"] == 1


def test_missing_key_is_reported(storage: str, tmp_path: Path) -> None:
    with open_store(storage, COLLECTIONS) as store:
        with pytest.raises(SecretUnavailableError, match="there is no folder"):
            rotate_secrets(store, tmp_path / "none")
        (tmp_path / "data").mkdir()
        with pytest.raises(SecretUnavailableError, match="no secret is encrypted yet"):
            rotate_secrets(store, tmp_path / "data")


def test_second_rotation_at_the_same_time_is_rejected(place: Place) -> None:
    with (
        FileLock(place.data / f".{SECRETS_KEY_FILE}.lock"),
        pytest.raises(SecretUnavailableError, match="another rotation is in progress"),
    ):
        place.rotate()
    place.rotate()


def test_every_collection_with_encrypted_secrets_is_rotated(place: Place) -> None:
    found = set()
    for tenant in place.store.tenants():
        with place.store.read(tenant) as snapshot:
            for name in place.store.collections:
                if any(b'"gAAAA' in record.body for record in snapshot.scan(name)):
                    found.add(name)
    assert found == SECRETS.keys()
