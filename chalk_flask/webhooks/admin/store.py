"""The webhooks of a store: made, listed, paused, resumed, given new secrets, deleted; each within its tenant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import uuid4

import orjson

from backends import KEY, Backend, In, Snapshot, Transaction
from chalk_flask.audit.events import AuditValue, record_event
from chalk_flask.auth.clients.store import encrypted_secrets
from chalk_flask.auth.secrets.encryption import SecretCipher, SecretUnavailableError
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.delivery import Attempt, Delivery, enqueue
from chalk_flask.outbox.event import TEST, build_message
from chalk_flask.outbox.subscription import COLLECTION, EncryptedSecret, Subscription, load_subscriptions
from chalk_flask.roster.changes.sequence import last_sequence
from chalk_flask.tenants.store import CONTROL, DEMOGRAPHICS, Tenant, require_tenant
from chalk_flask.times import utc_now
from chalk_flask.webhooks.admin import replay as requeueing
from chalk_flask.webhooks.admin.history import DeliveryHistory, delivery_history
from chalk_flask.webhooks.admin.subscription_options import SubscriptionOptions, WebhookError, WebhookRequest
from chalk_flask.webhooks.http.client import WebhookClient
from chalk_flask.webhooks.http.signature import new_secret, signed_headers
from chalk_flask.webhooks.http.ssrf_guard import ForbiddenTargetError, SsrfGuard

__all__ = ["MAX_WEBHOOKS", "CreatedWebhook", "WebhookError", "WebhookRequest", "WebhookStore"]

MAX_WEBHOOKS = 50
"""Webhooks that a tenant has at most: each change is weighed for every one of them."""


@dataclass(frozen=True, slots=True)
class CreatedWebhook:
    """A webhook that was made: its secret, which nobody can be told again, and those of its orgs that are not there."""

    subscription: Subscription
    secret: str
    unknown_orgs: Sequence[str] = ()


class WebhookStore:
    """The webhooks of a store. Safe for use by many threads and processes at once.

    Each change is one transaction of the tenant, with its entry in the audit. Methods that name a webhook raise
    WebhookError when the tenant has none with that id.
    """

    def __init__(
        self, store: Backend, vault: SecretCipher, guard: SsrfGuard, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._store, self._vault, self._guard, self._now = store, vault, guard, now

    def create(self, tenant: str, request: WebhookRequest) -> CreatedWebhook:
        """A new webhook. Raises WebhookError for what will not do, TenantError for an unknown tenant."""
        choice = SubscriptionOptions.from_request(request)
        try:
            url = self._guard.check_url(request.url).url
        except ForbiddenTargetError as error:
            raise WebhookError(str(error)) from error
        self._tenant(tenant)
        secret, moment = new_secret(), self._now()
        with self._store.write(tenant) as transaction:
            known = load_subscriptions(transaction)
            self._check(choice, self._tenant(tenant), len(known))
            made = Subscription(
                id=f"wh-{uuid4()}",
                tenant=tenant,
                url=url,
                created=_written(moment),
                secrets=(self._sealed(secret, known),),
                root=request.root,
                label=choice.label,
                events=choice.events,
                entities=choice.entities,
                orgs=choice.orgs,
                excluded=choice.excluded,
                mode=request.mode,
                full=request.full,
                initial=request.initial,
            )
            transaction.put(COLLECTION, [made.to_record()])
            record_event(transaction, tenant, "webhook.created", moment, **_facts(made), mode=made.mode, full=made.full)
            return CreatedWebhook(made, secret, _unknown(transaction, choice.orgs or frozenset()))

    def list(self, tenant: str) -> Sequence[Subscription]:
        """The webhooks of a tenant, the oldest first."""
        with self._store.read(tenant) as snapshot:
            return load_subscriptions(snapshot)

    def show(self, tenant: str, webhook_id: str) -> tuple[Subscription, DeliveryHistory]:
        """A webhook, and how far its deliveries have come."""
        with self._store.read(tenant) as snapshot:
            return find_webhook(snapshot, tenant, webhook_id), delivery_history(snapshot, webhook_id)

    def pause(self, tenant: str, webhook_id: str) -> Subscription:
        """Send nothing to a webhook, but keep what it is to be told. Raises WebhookError for a disabled one."""
        with self._store.write(tenant) as transaction:
            webhook = find_webhook(transaction, tenant, webhook_id)
            if webhook.state == "disabled":
                raise WebhookError(f"the webhook {webhook_id} is disabled, which is more: `webhook resume` ends that")
            return self._changed(transaction, replace(webhook, state="paused"), "webhook.paused")

    def resume(self, tenant: str, webhook_id: str) -> tuple[Subscription, int]:
        """Send to a webhook that was paused or disabled: what waits is due at once. Says how much that is."""
        with self._store.write(tenant) as transaction:
            webhook = replace(
                find_webhook(transaction, tenant, webhook_id), state="active", reason=None, failing_since=None
            )
            waiting = requeueing.make_due(transaction, webhook_id, self._now().timestamp())
            return self._changed(transaction, webhook, "webhook.resumed", waiting=waiting), waiting

    def rotate(self, tenant: str, webhook_id: str, overlap: timedelta) -> tuple[str, Subscription]:
        """A new secret. The former one signs beside it for the overlap, unless it ends sooner anyway; any before that
        ends now."""
        secret, now = new_secret(), self._now()
        with self._store.write(tenant) as transaction:
            webhook = find_webhook(transaction, tenant, webhook_id)
            end = _written(now + overlap)
            former = [replace(each, until=min(each.until or end, end)) for each in webhook.secrets[:1] if overlap]
            sealed = self._sealed(secret, load_subscriptions(transaction))
            changed = replace(webhook, secrets=(sealed, *former))
            return secret, self._changed(transaction, changed, "webhook.rotated")

    def delete(self, tenant: str, webhook_id: str) -> tuple[Subscription, int]:
        """Remove a webhook with all that was or is to be sent to it. Says how many deliveries that were."""
        with self._store.write(tenant) as transaction:
            webhook = find_webhook(transaction, tenant, webhook_id)
            removed = requeueing.remove_deliveries(transaction, webhook_id)
            transaction.delete(COLLECTION, [webhook_id])
            self._noted(transaction, webhook, "webhook.deleted", deliveries=removed)
            return webhook, removed

    def replay(
        self,
        tenant: str,
        webhook_id: str,
        *,
        since: datetime | None = None,
        event_id: str | None = None,
    ) -> int:
        """Deliver again what was delivered or given up: one event, or all since a moment. Says how many.

        Raises WebhookError for an event that is not kept, a moment before what is kept, and a disabled webhook.
        """
        now = self._now()
        with self._store.write(tenant) as transaction:
            webhook = find_webhook(transaction, tenant, webhook_id)
            if webhook.state == "disabled":
                raise WebhookError(f"the webhook {webhook_id} is disabled: `webhook resume` comes first")
            again = requeueing.replay(transaction, webhook_id, now, since, event_id)
            self._noted(transaction, webhook, "webhook.replayed", count=again, event_id=event_id)
            return again

    def test(self, tenant: str, webhook_id: str, poster: WebhookClient) -> Delivery:
        """Send `webhook.test` now, whatever the state of the webhook, and keep it with what came of it.

        The delivery is `delivered` or `failed` after one attempt. Raises WebhookError when nothing can be signed.
        """
        moment = self._now()
        with self._store.read(tenant) as snapshot:
            webhook, last = find_webhook(snapshot, tenant, webhook_id), last_sequence(snapshot)
        message = build_message(TEST, webhook_id, tenant, _written(moment), None, last, {"batch": {"changes": []}})
        headers = signed_headers(self.secrets(webhook), message.event_id, webhook_id, moment, message.body)
        answer = poster.post(webhook.url, headers, message.body)
        attempt = Attempt(_written(moment), answer.ms, answer.status, answer.error, answer.text)
        with self._store.write(tenant) as transaction:
            find_webhook(transaction, tenant, webhook_id)  # it may have been deleted meanwhile
            [made] = enqueue(transaction, [(webhook_id, message)], _written(moment), moment.timestamp())
            tried = made.with_attempt(attempt, "delivered" if answer.delivered else "failed", None)
            transaction.put(DELIVERIES, [tried.to_record()])
            self._noted(transaction, webhook, "webhook.tested", event_id=message.event_id, status=answer.status)
        return tried

    def secrets(self, webhook: Subscription) -> Sequence[str]:
        """The secrets that sign now, the newest first. Raises WebhookError when they cannot be opened."""
        try:
            return [self._vault.decrypt(each.sealed) for each in webhook.active_secrets(_written(self._now()))]
        except SecretUnavailableError as error:
            raise WebhookError(f"nothing can be signed: {error}") from error

    def _check(self, choice: SubscriptionOptions, tenant: Tenant, known: int) -> None:
        if DEMOGRAPHICS in choice.entities and not tenant.demographics:
            raise WebhookError(
                f"the tenant {tenant.name} is not opted in to demographics: `chalk-flask tenant set {tenant.name}"
                " --demographics` opts it in"
            )
        if known >= MAX_WEBHOOKS:
            raise WebhookError(f"a tenant has {MAX_WEBHOOKS} webhooks at most: delete one that is not used any more")

    def _tenant(self, name: str) -> Tenant:
        with self._store.read(CONTROL) as control:
            return require_tenant(control, name)

    def _sealed(self, secret: str, known: Sequence[Subscription]) -> EncryptedSecret:
        """The new secret as it is stored. Raises WebhookError when it cannot be sealed."""
        try:
            # A new key in the place of a lost one would hide what the loss has done to those that are there.
            for sealed in self._others(known)[:1]:
                self._vault.decrypt(sealed)
            return EncryptedSecret(self._vault.encrypt(secret))
        except SecretUnavailableError as error:
            raise WebhookError(
                f"a secret cannot be kept: {error}; if the key is lost, delete the webhooks, revoke the clients that"
                " use OAuth 1.0a, and remove the file"
            ) from error

    def _others(self, known: Sequence[Subscription]) -> Sequence[str]:
        with self._store.read(CONTROL) as control:
            return [*(each.sealed for webhook in known for each in webhook.secrets), *encrypted_secrets(control)]

    def _changed(
        self, transaction: Transaction, webhook: Subscription, event: str, **facts: AuditValue
    ) -> Subscription:
        transaction.put(COLLECTION, [webhook.to_record()])
        self._noted(transaction, webhook, event, **facts)
        return webhook

    def _noted(self, transaction: Transaction, webhook: Subscription, event: str, **facts: AuditValue) -> None:
        record_event(transaction, webhook.tenant, event, self._now(), **_facts(webhook), **facts)


def find_webhook(snapshot: Snapshot, tenant: str, webhook_id: str) -> Subscription:
    """The webhook with this id. Raises WebhookError."""
    body = snapshot.get_many(COLLECTION, [webhook_id]).get(webhook_id) if webhook_id else None
    if body is None:
        raise WebhookError(
            f"the tenant {tenant} has no webhook with the id {webhook_id[:80]!r}; `webhook list` shows those there are"
        )
    return Subscription.from_dict(orjson.loads(body))


def _facts(webhook: Subscription) -> dict[str, AuditValue]:
    return {"id": webhook.id, "label": webhook.label}


def _unknown(snapshot: Snapshot, orgs: frozenset[str]) -> Sequence[str]:
    known = set(snapshot.keys("orgs", In(KEY, tuple(sorted(orgs))))) if orgs else set()
    return sorted(orgs - known)


def _written(moment: datetime) -> str:
    return format_instant(moment.timestamp())
