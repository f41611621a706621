"""Store of webhooks: create, list, pause, test, replay and delete the webhooks of a tenant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import orjson

from backends import KEY, Backend, In, Snapshot, Transaction
from chalk_flask.audit.events import AuditValue, record_event
from chalk_flask.auth.clients.store import encrypted_secrets
from chalk_flask.auth.secrets.encryption import SecretCipher, SecretUnavailableError
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.delivery import Attempt, Delivery, DeliveryState, delivery_days, enqueue
from chalk_flask.outbox.event import TEST, build_message
from chalk_flask.outbox.subscription import COLLECTION, EncryptedSecret, Subscription, load_subscriptions
from chalk_flask.roster.changes.sequence import last_sequence
from chalk_flask.tenants.store import CONTROL, DEMOGRAPHICS, Tenant, require_tenant
from chalk_flask.times import format_timestamp, utc_now
from chalk_flask.webhooks.admin.deliveries import (
    DeliveryBody,
    DeliveryPage,
    RecentResults,
    count_by_day,
    find_delivery,
    list_deliveries,
)
from chalk_flask.webhooks.admin.history import DeliveryHistory, DeliveryOverview, delivery_history, overview
from chalk_flask.webhooks.admin.replay import make_due, remove_deliveries, replay, unknown_event
from chalk_flask.webhooks.admin.subscription_options import SubscriptionOptions, WebhookError, WebhookRequest
from chalk_flask.webhooks.http.client import WebhookClient
from chalk_flask.webhooks.http.signature import new_secret, signed_headers
from chalk_flask.webhooks.http.ssrf_guard import ForbiddenTargetError, SsrfGuard

__all__ = ["CreatedWebhook", "WebhookStore"]

MAX_WEBHOOKS: Final = 50
"""Upper limit per tenant, because every change is matched with every webhook."""
MAX_QUOTED_LENGTH: Final = 80


@dataclass(frozen=True, slots=True)
class CreatedWebhook:
    """New webhook with its secret, which cannot be shown again, and the ids of orgs that do not exist yet."""

    subscription: Subscription
    secret: str
    unknown_orgs: Sequence[str] = ()


class WebhookStore:
    """Webhooks of all tenants in a store. Thread-safe, also among processes.

    Each change is one transaction of the tenant and includes its audit event. Methods with a `webhook_id` raise
    WebhookError if the tenant has no such webhook.
    """

    def __init__(
        self, store: Backend, cipher: SecretCipher, guard: SsrfGuard, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._store, self._cipher, self._guard, self._now = store, cipher, guard, now

    def create(self, tenant: str, request: WebhookRequest) -> CreatedWebhook:
        """Create a webhook. Raises WebhookError for an invalid request, TenantError for an unknown tenant."""
        options = SubscriptionOptions.from_request(request)
        try:
            url = self._guard.check_url(request.url).url
        except ForbiddenTargetError as error:
            raise WebhookError(str(error)) from error
        self._require_tenant(tenant)
        secret, now = new_secret(), self._now()
        with self._store.write(tenant) as transaction:
            existing = load_subscriptions(transaction)
            self._check_tenant(options, self._require_tenant(tenant), len(existing))
            webhook = Subscription(
                id=f"wh-{uuid4()}",
                tenant=tenant,
                url=url,
                created=format_timestamp(now),
                secrets=(self._encrypt(secret, existing),),
                root=request.root,
                label=options.label,
                events=options.events,
                entities=options.entities,
                orgs=options.orgs,
                excluded=options.excluded,
                mode=request.mode,
                full=request.full,
                initial=request.initial,
            )
            transaction.put(COLLECTION, [webhook.to_record()])
            details = {**_identity(webhook), "mode": webhook.mode, "full": webhook.full}
            record_event(transaction, tenant, "webhook.created", now, **details)
            return CreatedWebhook(webhook, secret, _unknown_orgs(transaction, options.orgs or frozenset()))

    def list(self, tenant: str) -> Sequence[Subscription]:
        """Return the webhooks of a tenant, oldest first."""
        with self._store.read(tenant) as snapshot:
            return load_subscriptions(snapshot)

    def show(self, tenant: str, webhook_id: str) -> tuple[Subscription, DeliveryHistory]:
        """Return a webhook and its delivery history."""
        with self._store.read(tenant) as snapshot:
            return find_webhook(snapshot, tenant, webhook_id), delivery_history(snapshot, webhook_id)

    def overview(self, tenant: str, webhook_id: str) -> DeliveryOverview:
        """Return the numbers of deliveries by state, counted up to a limit, and the time of the next attempt."""
        with self._store.read(tenant) as snapshot:
            find_webhook(snapshot, tenant, webhook_id)
            return overview(snapshot, webhook_id)

    def deliveries(
        self, tenant: str, webhook_id: str, state: DeliveryState | None, before: str, limit: int
    ) -> DeliveryPage:
        """Return a page of the deliveries of a webhook, newest first; only those in `state` unless it is None.

        `before` is the `older` of the page before, "" for the first page.
        """
        with self._store.read(tenant) as snapshot:
            find_webhook(snapshot, tenant, webhook_id)
            return list_deliveries(snapshot, webhook_id, state, before, limit)

    def delivery(self, tenant: str, webhook_id: str, event_id: str) -> tuple[Delivery, DeliveryBody | None]:
        """Return the delivery of an event, and its body without demographics if it is still stored.

        Raises WebhookError for an unknown event.
        """
        with self._store.read(tenant) as snapshot:
            find_webhook(snapshot, tenant, webhook_id)
            found = find_delivery(snapshot, webhook_id, event_id)
        if found is None:
            raise unknown_event(event_id, delivery_days(self._store, tenant))
        return found

    def results_by_day(self, tenant: str, webhook_id: str, days: int) -> RecentResults:
        """Return the numbers of the newest deliveries of the last days by result."""
        with self._store.read(tenant) as snapshot:
            return count_by_day(snapshot, webhook_id, self._now().date(), days)

    def pause(self, tenant: str, webhook_id: str) -> Subscription:
        """Stop sending to a webhook and keep its deliveries for later. Raises WebhookError if it is disabled."""
        with self._store.write(tenant) as transaction:
            webhook = find_webhook(transaction, tenant, webhook_id)
            if webhook.state == "disabled":
                raise WebhookError(
                    f"webhook {webhook_id} is disabled and cannot be paused: run `webhook resume` to enable it"
                )
            return self._update(transaction, replace(webhook, state="paused"), "webhook.paused")

    def resume(self, tenant: str, webhook_id: str) -> tuple[Subscription, int]:
        """Send to a paused or disabled webhook again; return it and the number of deliveries that are due now."""
        with self._store.write(tenant) as transaction:
            stored = find_webhook(transaction, tenant, webhook_id)
            webhook = replace(stored, state="active", reason=None, failing_since=None)
            waiting = make_due(transaction, webhook_id, self._now().timestamp())
            return self._update(transaction, webhook, "webhook.resumed", waiting=waiting), waiting

    def rotate(self, tenant: str, webhook_id: str, overlap: timedelta) -> tuple[str, Subscription]:
        """Create a new secret; return it and the webhook.

        The previous secret signs too for `overlap`, or until its own end if that is sooner. Older secrets end now.
        """
        secret, now = new_secret(), self._now()
        with self._store.write(tenant) as transaction:
            webhook = find_webhook(transaction, tenant, webhook_id)
            end = format_timestamp(now + overlap)
            previous = [
                replace(encrypted, valid_until=min(encrypted.valid_until or end, end))
                for encrypted in webhook.secrets[:1]
                if overlap
            ]
            encrypted = self._encrypt(secret, load_subscriptions(transaction))
            rotated = replace(webhook, secrets=(encrypted, *previous))
            return secret, self._update(transaction, rotated, "webhook.rotated")

    def delete(self, tenant: str, webhook_id: str) -> tuple[Subscription, int]:
        """Delete a webhook with all its deliveries; return it and the number of deleted deliveries."""
        with self._store.write(tenant) as transaction:
            webhook = find_webhook(transaction, tenant, webhook_id)
            removed = remove_deliveries(transaction, webhook_id)
            transaction.delete(COLLECTION, [webhook_id])
            self._record_event(transaction, webhook, "webhook.deleted", deliveries=removed)
            return webhook, removed

    def replay(
        self,
        tenant: str,
        webhook_id: str,
        *,
        since: datetime | None = None,
        event_id: str | None = None,
    ) -> int:
        """Send finished deliveries again, one event or all since a time; return their number.

        Raises WebhookError for an unknown event, a time before the retention period, or a disabled webhook.
        """
        now, days = self._now(), delivery_days(self._store, tenant)
        with self._store.write(tenant) as transaction:
            webhook = find_webhook(transaction, tenant, webhook_id)
            if webhook.state == "disabled":
                raise WebhookError(f"webhook {webhook_id} is disabled: run `webhook resume` first")
            count = replay(transaction, webhook_id, now, since, event_id, days)
            self._record_event(transaction, webhook, "webhook.replayed", count=count, event_id=event_id)
            return count

    def test(self, tenant: str, webhook_id: str, client: WebhookClient) -> Delivery:
        """Send the event `webhook.test` once, also to a paused or disabled webhook; return the stored delivery.

        Its state is `delivered` or `failed`. Raises WebhookError if the secret cannot be decrypted.
        """
        now = self._now()
        with self._store.read(tenant) as snapshot:
            webhook, sequence = find_webhook(snapshot, tenant, webhook_id), last_sequence(snapshot)
        message = build_message(
            TEST, webhook_id, tenant, format_timestamp(now), None, sequence, {"batch": {"changes": []}}
        )
        headers = signed_headers(self.secrets(webhook), message.event_id, webhook_id, now, message.body)
        response = client.post(webhook.url, headers, message.body)
        attempt = Attempt(format_timestamp(now), response.duration_ms, response.status, response.error, response.text)
        with self._store.write(tenant) as transaction:
            find_webhook(transaction, tenant, webhook_id)  # raises if the webhook was deleted in the meantime
            [queued] = enqueue(transaction, [(webhook_id, message)], format_timestamp(now), now.timestamp())
            delivery = queued.with_attempt(attempt, "delivered" if response.delivered else "failed", None)
            transaction.put(DELIVERIES, [delivery.to_record()])
            self._record_event(
                transaction, webhook, "webhook.tested", event_id=message.event_id, status=response.status
            )
        return delivery

    def secrets(self, webhook: Subscription) -> Sequence[str]:
        """Return the secrets that sign now, newest first. Raises WebhookError if they cannot be decrypted."""
        try:
            return [
                self._cipher.decrypt(secret.ciphertext)
                for secret in webhook.active_secrets(format_timestamp(self._now()))
            ]
        except SecretUnavailableError as error:
            raise WebhookError(f"cannot sign deliveries: {error}") from error

    def _check_tenant(self, options: SubscriptionOptions, tenant: Tenant, webhook_count: int) -> None:
        if DEMOGRAPHICS in options.entities and not tenant.demographics:
            raise WebhookError(
                f"tenant {tenant.name} has not opted in to demographics: turn them on in the settings of the console,"
                f" or run `chalk-flask tenant set {tenant.name} --demographics`"
            )
        if webhook_count >= MAX_WEBHOOKS:
            raise WebhookError(f"a tenant can have at most {MAX_WEBHOOKS} webhooks: delete an unused one")

    def _require_tenant(self, name: str) -> Tenant:
        with self._store.read(CONTROL) as control:
            return require_tenant(control, name)

    def _encrypt(self, secret: str, webhooks: Sequence[Subscription]) -> EncryptedSecret:
        """Encrypt a new secret. Raises WebhookError if the key is missing or wrong."""
        try:
            # A new key in place of a lost one would hide that the existing secrets cannot be decrypted.
            for encrypted in self._existing_secrets(webhooks)[:1]:
                self._cipher.decrypt(encrypted)
            return EncryptedSecret(self._cipher.encrypt(secret))
        except SecretUnavailableError as error:
            raise WebhookError(
                f"cannot store a secret: {error}; if the key is lost, delete the webhooks, revoke the clients that"
                " use OAuth 1.0a, and remove the file"
            ) from error

    def _existing_secrets(self, webhooks: Sequence[Subscription]) -> Sequence[str]:
        with self._store.read(CONTROL) as control:
            of_webhooks = [secret.ciphertext for webhook in webhooks for secret in webhook.secrets]
            return [*of_webhooks, *encrypted_secrets(control)]

    def _update(
        self, transaction: Transaction, webhook: Subscription, event: str, **values: AuditValue
    ) -> Subscription:
        transaction.put(COLLECTION, [webhook.to_record()])
        self._record_event(transaction, webhook, event, **values)
        return webhook

    def _record_event(self, transaction: Transaction, webhook: Subscription, event: str, **values: AuditValue) -> None:
        record_event(transaction, webhook.tenant, event, self._now(), **_identity(webhook), **values)


def find_webhook(snapshot: Snapshot, tenant: str, webhook_id: str) -> Subscription:
    """Return the webhook with this id. Raises WebhookError if there is none."""
    body = snapshot.get_many(COLLECTION, [webhook_id]).get(webhook_id) if webhook_id else None
    if body is None:
        raise WebhookError(
            f"tenant {tenant} has no webhook with the id {webhook_id[:MAX_QUOTED_LENGTH]!r};"
            " `chalk-flask webhook list` lists them"
        )
    return Subscription.from_dict(orjson.loads(body))


def _identity(webhook: Subscription) -> dict[str, AuditValue]:
    return {"id": webhook.id, "label": webhook.label}


def _unknown_orgs(snapshot: Snapshot, orgs: frozenset[str]) -> Sequence[str]:
    existing = set(snapshot.keys("orgs", In(KEY, tuple(sorted(orgs))))) if orgs else set()
    return sorted(orgs - existing)
