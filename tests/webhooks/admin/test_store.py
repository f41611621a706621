"""Store of webhooks: secrets, states, test deliveries, and the audit events of each change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from backends import Backend
from chalk_flask.auth.clients.store import ClientError, ClientStore
from chalk_flask.auth.secrets.encryption import SECRETS_KEY_FILE, SecretCipher
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.subscription import COLLECTION
from chalk_flask.tenants.store import TenantError, TenantStore
from chalk_flask.webhooks import WebhookClient, WebhookError, WebhookStore
from chalk_flask.webhooks.admin.store import MAX_WEBHOOKS
from tests.support.clock import FakeClock
from tests.support.receiver import respond, run_receiver
from tests.webhooks.conftest import (
    LOCAL_GUARD,
    URL,
    audit_events,
    create_webhook,
    deliveries_by_key,
    make_request,
    queue_deliveries,
    stored_keys,
)

# Creation


@pytest.mark.every_backend
def test_create_stores_the_request_and_an_audit_event(webhooks: WebhookStore, store: Backend) -> None:
    request = make_request(label=" Tool ", events=["user.*"], orgs=["o-1"], excluded=["email"])
    created = webhooks.create("default", request)
    [webhook] = webhooks.list("default")
    assert webhook == created.subscription
    assert (webhook.label, webhook.url, webhook.tenant, webhook.state) == ("Tool", URL, "default", "active")
    assert (webhook.mode, webhook.full, webhook.initial) == ("batched", False, False)
    assert webhook.events == {"user.created", "user.updated", "user.deleted"}
    assert (webhook.orgs, webhook.excluded) == (frozenset({"o-1"}), frozenset({"email"}))
    assert not webhook.entities
    assert created.unknown_orgs == ["o-1"]
    [(event, entry)] = audit_events(store)
    assert (event, entry["id"], entry["label"]) == ("webhook.created", webhook.id, "Tool")
    assert "url" not in entry, "a URL may contain a secret"


def test_create_rejects_an_unknown_tenant(webhooks: WebhookStore) -> None:
    for name in ("north", "_control", "../x"):
        with pytest.raises(TenantError):
            webhooks.create(name, make_request())
    assert webhooks.list("north") == []


def test_create_rejects_more_than_the_maximum_per_tenant(webhooks: WebhookStore, store: Backend) -> None:
    for _ in range(MAX_WEBHOOKS):
        create_webhook(webhooks)
    with pytest.raises(WebhookError, match=f"at most {MAX_WEBHOOKS} webhooks"):
        webhooks.create("default", make_request())
    TenantStore(store).create("north")
    assert create_webhook(webhooks, "north").tenant == "north"


def test_create_requires_an_opt_in_for_demographics(webhooks: WebhookStore, store: Backend) -> None:
    assert "demographics" not in create_webhook(webhooks).entity_types
    named = create_webhook(webhooks, entities=["demographics"], events=["demographics.*"])
    assert named.entity_types == {"demographics"}
    tenants = TenantStore(store)
    tenants.create("north")
    with pytest.raises(WebhookError, match="tenant set north --demographics"):
        webhooks.create("north", make_request(entities=["demographics"]))
    tenants.update("north", demographics=True)
    assert create_webhook(webhooks, "north", entities=["demographics"]).entity_types == {"demographics"}


# Secrets


def test_secret_is_returned_once_and_stored_encrypted(
    webhooks: WebhookStore, store: Backend, cipher: SecretCipher
) -> None:
    created = webhooks.create("default", make_request())
    assert created.secret.startswith("whsec_")
    with store.read("default") as snapshot:
        body = snapshot.get_many(COLLECTION, [created.subscription.id])[created.subscription.id]
    assert created.secret.encode() not in body
    assert cipher.decrypt(orjson.loads(body)["secrets"][0]["sealed"]) == created.secret
    assert "secret" not in orjson.dumps(created.subscription.to_dict()).decode()
    assert created.subscription.secrets[0].ciphertext not in repr(created.subscription)
    assert webhooks.secrets(created.subscription) == [created.secret]


def test_rotated_secret_signs_beside_the_previous_until_its_end(webhooks: WebhookStore, clock: FakeClock) -> None:
    first = webhooks.create("default", make_request())
    second, webhook = webhooks.rotate("default", first.subscription.id, timedelta(hours=24))
    assert webhooks.secrets(webhook) == [second, first.secret]
    third, webhook = webhooks.rotate("default", webhook.id, timedelta(hours=1))
    assert webhooks.secrets(webhook) == [third, second], "two at most"
    assert webhook.secrets[1].valid_until == "2026-09-01T09:00:00.000Z"
    clock.advance(hours=1)
    assert webhooks.secrets(webhook) == [third]
    last, webhook = webhooks.rotate("default", webhook.id, timedelta())
    assert webhooks.secrets(webhook) == [last]
    assert len(webhook.secrets) == 1, "an ended secret is not stored"


def test_missing_key_file_is_not_replaced(webhooks: WebhookStore, tmp_path: Path) -> None:
    webhook = create_webhook(webhooks)
    (tmp_path / "data" / SECRETS_KEY_FILE).unlink()
    for action in (
        lambda: webhooks.create("default", make_request()),
        lambda: webhooks.rotate("default", webhook.id, timedelta()),
    ):
        with pytest.raises(WebhookError, match=r"cannot store a secret: .*secrets\.key"):
            action()
    with pytest.raises(WebhookError, match=r"cannot sign deliveries: .*secrets\.key"):
        webhooks.secrets(webhook)
    assert not (tmp_path / "data" / SECRETS_KEY_FILE).exists()
    webhooks.delete("default", webhook.id)
    assert create_webhook(webhooks).id != webhook.id, "without webhooks a new key loses nothing"


def test_missing_key_file_of_client_secrets_is_not_replaced(
    webhooks: WebhookStore, store: Backend, cipher: SecretCipher, tmp_path: Path
) -> None:
    ClientStore(store, cipher=cipher).create("signs", [], oauth1=True)
    (tmp_path / "data" / SECRETS_KEY_FILE).unlink()
    with pytest.raises(WebhookError, match="cannot store a secret"):
        webhooks.create("default", make_request())
    with pytest.raises(ClientError):
        ClientStore(store, cipher=cipher).create("signs too", [], oauth1=True)


# States


def test_pause_keeps_deliveries_and_resume_makes_them_due(
    webhooks: WebhookStore, store: Backend, clock: FakeClock
) -> None:
    webhook, other = create_webhook(webhooks, label="one"), create_webhook(webhooks, label="other")
    pending, unrelated = queue_deliveries(store, webhook, 3), queue_deliveries(store, other)
    delivered = queue_deliveries(store, webhook, 2, "delivered")
    assert webhooks.pause("default", webhook.id).state == "paused"
    assert [deliveries_by_key(store)[delivery.key] for delivery in pending] == pending
    clock.advance(hours=2)
    resumed, count = webhooks.resume("default", webhook.id)
    assert (resumed.state, count) == ("active", 3)
    stored = deliveries_by_key(store)
    assert {stored[delivery.key].due for delivery in pending} == {clock.time()}
    unchanged = [*unrelated, *delivered]
    assert [stored[delivery.key] for delivery in unchanged] == unchanged
    events = sorted(event for event, _ in audit_events(store))
    assert events == ["webhook.created"] * 2 + ["webhook.paused", "webhook.resumed"]


def test_resume_enables_a_disabled_webhook(webhooks: WebhookStore, store: Backend) -> None:
    webhook = create_webhook(webhooks)
    disabled = replace(webhook, state="disabled", reason="410", failing_since="2026-09-01T08:00:00.000Z")
    with store.write("default") as transaction:
        transaction.put(COLLECTION, [disabled.to_record()])
    with pytest.raises(WebhookError, match="disabled"):
        webhooks.pause("default", webhook.id)
    with pytest.raises(WebhookError, match="resume"):
        webhooks.replay("default", webhook.id, since=datetime(2026, 8, 31, tzinfo=UTC))
    resumed, _ = webhooks.resume("default", webhook.id)
    assert resumed == webhook


def test_unknown_webhook_is_rejected_by_every_method(webhooks: WebhookStore, store: Backend) -> None:
    TenantStore(store).create("north")
    other_tenants = create_webhook(webhooks, "north").id
    for webhook_id in ("wh-none", "", other_tenants, ":state"):
        for method in (
            webhooks.show,
            webhooks.pause,
            webhooks.resume,
            webhooks.delete,
            lambda tenant, key: webhooks.rotate(tenant, key, timedelta()),
            lambda tenant, key: webhooks.replay(tenant, key, event_id="evt-1"),
            lambda tenant, key: webhooks.test(tenant, key, WebhookClient(LOCAL_GUARD)),
        ):
            with pytest.raises(WebhookError, match="no webhook"):
                method("default", webhook_id)


def test_delete_removes_deliveries_and_bodies(webhooks: WebhookStore, store: Backend) -> None:
    webhook, other = create_webhook(webhooks), create_webhook(webhooks)
    queue_deliveries(store, webhook, 1200)
    [remaining] = queue_deliveries(store, other)
    assert webhooks.delete("default", webhook.id)[1] == 1200
    assert stored_keys(store, COLLECTION) == [other.id]
    assert stored_keys(store, DELIVERIES) == stored_keys(store, BODIES) == [remaining.key]
    assert dict(audit_events(store))["webhook.deleted"]["deliveries"] == 1200


def test_tenant_deletion_removes_its_webhooks_and_deliveries(webhooks: WebhookStore, store: Backend) -> None:
    tenants = TenantStore(store)
    tenants.create("north")
    queue_deliveries(store, create_webhook(webhooks, "north"))
    assert stored_keys(store, BODIES, "north")
    tenants.delete("north")
    assert [stored_keys(store, name, "north") for name in (COLLECTION, DELIVERIES, BODIES)] == [[], [], []]


# Test deliveries


@pytest.mark.parametrize(
    ("response", "state", "status"), [(b"204 No Content", "delivered", 204), (b"500 No", "failed", 500)]
)
def test_test_delivery_is_signed_sent_once_and_stored(
    store: Backend, cipher: SecretCipher, response: bytes, state: str, status: int
) -> None:
    webhooks = WebhookStore(store, cipher, LOCAL_GUARD)  # system clock: verification checks the timestamp
    with run_receiver(respond(b"HTTP/1.1 " + response + b"\r\nContent-Length: 0\r\n\r\n")) as receiver:
        created = webhooks.create("default", make_request(url=receiver.url))
        webhooks.pause("default", created.subscription.id)
        client = WebhookClient(LOCAL_GUARD)
        delivery = webhooks.test("default", created.subscription.id, client)
        client.close()
    [(_, headers, body)] = receiver.requests
    assert (delivery.state, delivery.due, delivery.attempts[0].status) == (state, None, status)
    assert deliveries_by_key(store) == {delivery.key: delivery}
    assert Webhook(created.secret).verify(body, headers)["event_type"] == "webhook.test"
    with pytest.raises(WebhookVerificationError):
        Webhook(created.secret).verify(body + b" ", headers)
    data = orjson.loads(body)
    assert (data["event_id"], data["webhook_id"]) == (headers["webhook-id"], created.subscription.id)
    assert (data["tenant_id"], data["sync_run_id"], data["data"]) == ("default", None, {"batch": {"changes": []}})
    entry = dict(audit_events(store))["webhook.tested"]
    assert (entry["event_id"], entry["status"]) == (delivery.event_id, status)
