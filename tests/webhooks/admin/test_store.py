"""The registry of webhooks: secrets, states, tests, replays, and what goes with a webhook."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from backends import Backend
from chalk_flask.auth.clients.store import ClientError, ClientStore
from chalk_flask.auth.secrets.encryption import KEY_FILE_NAME, SecretCipher
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox.delivery import BODIES, Attempt, enqueue
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.event import build_message
from chalk_flask.outbox.subscription import COLLECTION
from chalk_flask.tenants.store import TenantStore
from chalk_flask.webhooks.admin.store import WebhookError, WebhookStore
from chalk_flask.webhooks.http.client import WebhookClient
from tests.support.receiver import answering, receiving
from tests.webhooks.conftest import ALLOWED, Clock, asked, deliveries, held, made, queued, told

# Secrets


def test_a_secret_is_told_once_and_kept_sealed(webhooks: WebhookStore, store: Backend, vault: SecretCipher) -> None:
    created = webhooks.create("default", asked())
    assert created.secret.startswith("whsec_")
    with store.read("default") as snapshot:
        body = snapshot.get_many(COLLECTION, [created.subscription.id])[created.subscription.id]
    assert created.secret.encode() not in body
    assert vault.decrypt(orjson.loads(body)["secrets"][0]["sealed"]) == created.secret
    assert "secret" not in orjson.dumps(created.subscription.to_dict()).decode()
    assert created.subscription.secrets[0].sealed not in repr(created.subscription)
    assert webhooks.secrets(created.subscription) == [created.secret]


def test_a_rotated_secret_signs_beside_the_former_until_that_ends(webhooks: WebhookStore, clock: Clock) -> None:
    first = webhooks.create("default", asked())
    second, webhook = webhooks.rotate("default", first.subscription.id, timedelta(hours=24))
    assert webhooks.secrets(webhook) == [second, first.secret]
    third, webhook = webhooks.rotate("default", webhook.id, timedelta(hours=1))
    assert webhooks.secrets(webhook) == [third, second], "two at most"
    assert webhook.secrets[1].until == "2026-09-01T09:00:00.000Z"
    clock.now += timedelta(hours=1)
    assert webhooks.secrets(webhook) == [third]
    last, webhook = webhooks.rotate("default", webhook.id, timedelta())
    assert webhooks.secrets(webhook) == [last]
    assert len(webhook.secrets) == 1, "what signs no more is not kept"


def test_the_loss_of_the_key_is_not_hidden_by_a_new_one(webhooks: WebhookStore, store: Backend, tmp_path: Path) -> None:
    webhook = made(webhooks)
    (tmp_path / "data" / KEY_FILE_NAME).unlink()
    with pytest.raises(WebhookError, match="put it back"):
        webhooks.create("default", asked())
    with pytest.raises(WebhookError, match="put it back"):
        webhooks.rotate("default", webhook.id, timedelta())
    with pytest.raises(WebhookError, match="nothing can be signed"):
        webhooks.secrets(webhook)
    assert not (tmp_path / "data" / KEY_FILE_NAME).exists()
    webhooks.delete("default", webhook.id)
    assert made(webhooks).id != webhook.id, "with none left there is nothing to lose"


def test_the_key_that_seals_the_secrets_of_clients_is_not_replaced_either(
    webhooks: WebhookStore, store: Backend, vault: SecretCipher, tmp_path: Path
) -> None:
    ClientStore(store, vault=vault).create("signs", [], oauth1=True)
    (tmp_path / "data" / KEY_FILE_NAME).unlink()
    with pytest.raises(WebhookError, match="put it back"):
        webhooks.create("default", asked())
    with pytest.raises(ClientError):
        ClientStore(store, vault=vault).create("signs too", [], oauth1=True)


# States


def test_pausing_keeps_what_waits_and_resuming_makes_it_due(
    webhooks: WebhookStore, store: Backend, clock: Clock
) -> None:
    webhook, other = made(webhooks, label="one"), made(webhooks, label="other")
    waiting, left = queued(store, webhook, 3), queued(store, other)
    done = queued(store, webhook, 2, "delivered")
    assert webhooks.pause("default", webhook.id).state == "paused"
    assert [deliveries(store)[each.key] for each in waiting] == waiting
    clock.now += timedelta(hours=2)
    resumed, count = webhooks.resume("default", webhook.id)
    assert (resumed.state, count) == ("active", 3)
    found = deliveries(store)
    assert {found[each.key].due for each in waiting} == {clock.now.timestamp()}
    assert [found[each.key] for each in (*left, *done)] == [*left, *done]
    assert sorted(what for what, _ in told(store)) == ["webhook.created"] * 2 + ["webhook.paused", "webhook.resumed"]


def test_resuming_ends_that_a_webhook_is_disabled(webhooks: WebhookStore, store: Backend) -> None:
    webhook = made(webhooks)
    ended = replace(webhook, state="disabled", reason="410", failing_since="2026-09-01T08:00:00.000Z")
    with store.write("default") as transaction:
        transaction.put(COLLECTION, [ended.to_record()])
    with pytest.raises(WebhookError, match="disabled"):
        webhooks.pause("default", webhook.id)
    with pytest.raises(WebhookError, match="resume"):
        webhooks.replay("default", webhook.id, since=datetime(2026, 8, 31, tzinfo=UTC))
    resumed, _ = webhooks.resume("default", webhook.id)
    assert resumed == webhook


def test_what_is_not_there_is_refused_whatever_is_asked_of_it(webhooks: WebhookStore, store: Backend) -> None:
    TenantStore(store).create("north")
    elsewhere = made(webhooks, "north").id
    for webhook_id in ("wh-none", "", elsewhere, ":state"):
        for ask in (
            webhooks.show,
            webhooks.pause,
            webhooks.resume,
            webhooks.delete,
            lambda tenant, key: webhooks.rotate(tenant, key, timedelta()),
            lambda tenant, key: webhooks.replay(tenant, key, event_id="evt-1"),
            lambda tenant, key: webhooks.test(tenant, key, WebhookClient(ALLOWED)),
        ):
            with pytest.raises(WebhookError, match="no webhook"):
                ask("default", webhook_id)


def test_deleting_takes_deliveries_and_bodies_along(webhooks: WebhookStore, store: Backend) -> None:
    webhook, other = made(webhooks), made(webhooks)
    queued(store, webhook, 1200)
    [left] = queued(store, other)
    assert webhooks.delete("default", webhook.id)[1] == 1200
    assert held(store, COLLECTION) == [other.id]
    assert held(store, DELIVERIES) == held(store, BODIES) == [left.key]
    assert dict(told(store))["webhook.deleted"]["deliveries"] == 1200


def test_the_deletion_of_a_tenant_leaves_nothing_of_its_webhooks(webhooks: WebhookStore, store: Backend) -> None:
    tenants = TenantStore(store)
    tenants.create("north")
    webhook = made(webhooks, "north")
    with store.write("north") as transaction:
        list(
            enqueue(
                transaction,
                [(webhook.id, build_message("user.created", webhook.id, "north", "", None, 1, {}))],
                "",
                1.0,
            )
        )
    assert held(store, BODIES, "north")
    tenants.delete("north")
    assert [held(store, each, "north") for each in (COLLECTION, DELIVERIES, BODIES)] == [[], [], []]


# What was sent


def test_the_history_counts_and_shows_the_last_attempts(webhooks: WebhookStore, store: Backend) -> None:
    webhook = made(webhooks)
    queued(store, webhook, 2, "failed", "2026-08-30T08:00:00.000Z")
    queued(store, webhook, 12, "delivered", "2026-08-31T08:00:00.000Z")
    queued(store, webhook, 3)
    shown, history = webhooks.show("default", webhook.id)
    assert shown == webhook
    assert history.counts == {"pending": 3, "delivered": 12, "failed": 2}
    assert history.next_due == format_instant(1000.0)
    assert len(history.last) == 7, "of the ten latest deliveries, those that were tried"
    assert {(each.attempt.status, each.attempt.answer) for each in history.last} == {(200, "well\nmore")}


def test_what_an_endpoint_that_is_down_gets_is_seen(webhooks: WebhookStore, store: Backend) -> None:
    webhook = made(webhooks)
    [first, *_] = queued(store, webhook, 30)
    with store.write("default") as transaction:
        transaction.put(
            DELIVERIES, [first.with_attempt(Attempt("t", 1, None, "reset"), "pending", 9_000.0).to_record()]
        )
    assert [each.attempt.error for each in webhooks.show("default", webhook.id)[1].last] == ["reset"]


def test_a_replay_is_the_same_event_again(webhooks: WebhookStore, store: Backend, clock: Clock) -> None:
    webhook = made(webhooks)
    [old] = queued(store, webhook, 1, "delivered", "2026-08-20T08:00:00.000Z")
    [failed] = queued(store, webhook, 1, "failed", "2026-08-31T08:00:00.000Z")
    [waiting] = queued(store, webhook)
    with store.read("default") as snapshot:
        before = snapshot.get_many(BODIES, [failed.key])
    assert webhooks.replay("default", webhook.id, since=datetime(2026, 8, 30, tzinfo=UTC)) == 1
    found = deliveries(store)
    assert (found[failed.key].state, found[failed.key].due) == ("pending", clock.now.timestamp())
    assert found[failed.key].attempts == failed.attempts
    assert found[failed.key].event_id == failed.event_id
    assert (found[old.key], found[waiting.key]) == (old, waiting)
    with store.read("default") as snapshot:
        assert snapshot.get_many(BODIES, [failed.key]) == before
    assert webhooks.replay("default", webhook.id, event_id=old.event_id) == 1
    assert deliveries(store)[old.key].state == "pending"
    assert [entry["count"] for event, entry in told(store) if event == "webhook.replayed"] == [1, 1]


def test_what_is_not_kept_cannot_be_replayed(webhooks: WebhookStore, store: Backend, clock: Clock) -> None:
    webhook, other = made(webhooks), made(webhooks)
    [elsewhere] = queued(store, other, 1, "delivered")
    with pytest.raises(WebhookError, match="30 days"):
        webhooks.replay("default", webhook.id, since=clock.now - timedelta(days=30, seconds=1))
    with pytest.raises(WebhookError, match="30 days"):
        webhooks.replay("default", webhook.id, event_id=elsewhere.event_id)
    assert webhooks.replay("default", webhook.id, since=clock.now - timedelta(days=30)) == 0


@pytest.mark.parametrize(
    ("answer", "state", "status"), [(b"204 No Content", "delivered", 204), (b"500 No", "failed", 500)]
)
def test_a_test_is_sent_signed_and_kept(
    webhooks: WebhookStore, store: Backend, answer: bytes, state: str, status: int
) -> None:
    with receiving(answering(b"HTTP/1.1 " + answer + b"\r\nContent-Length: 0\r\n\r\n")) as receiver:
        webhooks = WebhookStore(store, webhooks._vault, ALLOWED)  # the clock of the system: a signature has a moment
        created = webhooks.create("default", asked(url=receiver.url))
        webhooks.pause("default", created.subscription.id)
        poster = WebhookClient(ALLOWED)
        delivery = webhooks.test("default", created.subscription.id, poster)
        poster.close()
    [(_, headers, body)] = receiver.requests
    assert (delivery.state, delivery.due, delivery.attempts[0].status) == (state, None, status)
    assert deliveries(store) == {delivery.key: delivery}
    assert Webhook(created.secret).verify(body, headers)["event_type"] == "webhook.test"
    with pytest.raises(WebhookVerificationError):
        Webhook(created.secret).verify(body + b" ", headers)
    data = orjson.loads(body)
    assert (data["event_id"], data["webhook_id"]) == (headers["webhook-id"], created.subscription.id)
    assert (data["tenant_id"], data["sync_run_id"], data["data"]) == ("default", None, {"batch": {"changes": []}})
    entry = dict(told(store))["webhook.tested"]
    assert (entry["event_id"], entry["status"]) == (delivery.event_id, status)
