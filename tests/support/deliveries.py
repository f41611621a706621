"""Webhooks with queued events in a store, and a running worker."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from standardwebhooks import Webhook

from backends import Backend, Query
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.background.leader_lock import LeaderLock
from chalk_flask.outbox import Delivery, EncryptedSecret, Subscription
from chalk_flask.outbox.delivery import COLLECTION, enqueue
from chalk_flask.outbox.event import build_message
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.times import format_epoch_seconds
from chalk_flask.webhooks import SsrfGuard, WebhookClient, Worker
from chalk_flask.webhooks.delivery.retry_policy import RetryPolicy
from tests.support.receiver import ConnectionHandler, Receiver, read_request

TENANT = "default"
SECRET = "whsec_" + "c2VjcmV0" * 6
FAST_RETRIES = RetryPolicy(delays=(0.2, 0.2), backoff_base=0.01, jitter=0.0)


def add_webhook(store: Backend, data: Path, url: str, webhook_id: str = "wh-1", **fields: Any) -> Subscription:
    """Store a webhook in mode per_entity, with secrets encrypted by the key in `data`."""
    secrets = fields.pop("secrets", (SECRET,))
    encrypted = tuple(EncryptedSecret(SecretCipher(data).encrypt(secret)) for secret in secrets)
    fields = {"mode": "per_entity", "root": "", "created": format_epoch_seconds(time.time())} | fields
    subscription = Subscription(id=webhook_id, tenant=TENANT, url=url, secrets=encrypted, **fields)
    put_webhook(store, subscription)
    return subscription


def put_webhook(store: Backend, subscription: Subscription) -> None:
    """Store a webhook in place of the one with the same id."""
    with store.write(TENANT) as transaction:
        transaction.put(WEBHOOKS, [subscription.to_record()])


def get_webhook(store: Backend, webhook_id: str = "wh-1") -> Subscription:
    """Return the stored webhook."""
    with store.read(TENANT) as snapshot:
        return Subscription.from_dict(orjson.loads(snapshot.get_many(WEBHOOKS, [webhook_id])[webhook_id]))


def queue_events(
    store: Backend, count: int, *webhook_ids: str, due: float | None = None, data: Any = None
) -> list[str]:
    """Queue `count` events for each of the webhooks (default: wh-1); return the event ids in order."""
    created = time.time() if due is None else due
    timestamp = format_epoch_seconds(created)
    messages = [
        (webhook_id, build_message("user.updated", webhook_id, TENANT, timestamp, None, number, data or {"single": {}}))
        for number in range(count)
        for webhook_id in webhook_ids or ("wh-1",)
    ]
    with store.write(TENANT) as transaction:
        enqueue(transaction, messages, timestamp, created)
    return [message.event_id for _, message in messages]


def list_deliveries(store: Backend) -> list[Delivery]:
    """Return all deliveries of the default tenant in order."""
    with store.read(TENANT) as snapshot:
        return [Delivery.from_dict(data) for data in orjson.loads(b"[%b]" % snapshot.find(Query(COLLECTION)).body())]


@contextmanager
def running_worker(
    store: Backend,
    data: Path,
    retry_policy: RetryPolicy = FAST_RETRIES,
    leader_lock: LeaderLock | None = None,
    now: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    allowed: Sequence[str] = ("127.0.0.1",),
) -> Iterator[Worker]:
    """Run a worker over the store until the block ends. `now` is the system time, `monotonic` the time for waits."""
    guard = SsrfGuard(allowed)
    worker = Worker(
        store,
        SecretCipher(data),
        leader_lock or LeaderLock(None),
        lambda: WebhookClient(guard, timeout=2.0),
        retry_policy,
        now,
        monotonic,
    )
    worker.start()
    try:
        yield worker
    finally:
        worker.close()


def wait_until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until the condition is true; fail after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition is still false after {seconds:g} s"
        time.sleep(0.02)


def event_ids(receiver: Receiver) -> list[str]:
    """Return the event ids of the received requests in order."""
    return [headers["webhook-id"] for _, headers, _ in list(receiver.requests)]


def verify_request(request: tuple[str, Mapping[str, str], bytes], secret: str = SECRET) -> Any:
    """Return the event of a request as a receiver verifies it. Raises WebhookVerificationError."""
    _, headers, body = request
    return Webhook(secret).verify(body, dict(headers))


def respond_by_number(response: Callable[[int], bytes]) -> ConnectionHandler:
    """Respond to the request of each number, from 1, with the bytes that the function returns."""

    def handle(receiver: Receiver, stream: socket.socket) -> None:
        while read_request(receiver, stream):
            stream.sendall(response(len(receiver.requests)))

    return handle


def never_respond(receiver: Receiver, stream: socket.socket) -> None:
    """Read requests without a response."""
    while read_request(receiver, stream):
        pass


def http_response(status: int, **headers: str) -> bytes:
    """Return an HTTP response with the body `words`; underscores in header names become hyphens."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\n{lines}Content-Length: 5\r\n\r\nwords".encode()
