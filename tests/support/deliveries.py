"""What tests of the worker share: webhooks, events for them, and a worker over a store."""

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
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox import Delivery, EncryptedSecret, Subscription
from chalk_flask.outbox.delivery import COLLECTION, enqueue
from chalk_flask.outbox.event import build_message
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.webhooks.delivery.leader_lock import LeaderLock
from chalk_flask.webhooks.delivery.retry_policy import RetryPolicy
from chalk_flask.webhooks.delivery.worker import Worker
from chalk_flask.webhooks.http.client import WebhookClient
from chalk_flask.webhooks.http.ssrf_guard import SsrfGuard
from tests.support.receiver import Behaviour, Receiver, read_request

TENANT = "default"
SECRET = "whsec_" + "c2VjcmV0" * 6
BUSY = RetryPolicy(delays=(0.2, 0.2), backoff_base=0.01, jitter=0.0)
"""A schedule for tests that do not want to wait."""


def subscribed(store: Backend, data: Path, url: str, name: str = "wh-1", **more: Any) -> Subscription:
    """A webhook to this URL, stored."""
    secrets = more.pop("secrets", (SECRET,))
    sealed = tuple(EncryptedSecret(SecretCipher(data).encrypt(secret)) for secret in secrets)
    given = {"mode": "per_entity", "root": "", "created": format_instant(time.time())} | more
    made = Subscription(id=name, tenant=TENANT, url=url, secrets=sealed, **given)
    keep(store, made)
    return made


def keep(store: Backend, subscription: Subscription) -> None:
    with store.write(TENANT) as transaction:
        transaction.put(WEBHOOKS, [subscription.to_record()])


def webhook(store: Backend, name: str = "wh-1") -> Subscription:
    """The webhook as it stands."""
    with store.read(TENANT) as snapshot:
        return Subscription.from_dict(orjson.loads(snapshot.get_many(WEBHOOKS, [name])[name]))


def tell(store: Backend, count: int, *names: str, due: float | None = None, data: Any = None) -> list[str]:
    """Enqueue so many events for each of the webhooks; gives the ids in order."""
    moment = time.time() if due is None else due
    messages = [
        (
            name,
            build_message("user.updated", name, TENANT, format_instant(moment), None, number, data or {"single": {}}),
        )
        for number in range(count)
        for name in names or ("wh-1",)
    ]
    with store.write(TENANT) as transaction:
        enqueue(transaction, messages, format_instant(moment), moment)
    return [message.event_id for _, message in messages]


def deliveries(store: Backend) -> list[Delivery]:
    """All of them, in order."""
    with store.read(TENANT) as snapshot:
        return [Delivery.from_dict(each) for each in orjson.loads(b"[%b]" % snapshot.find(Query(COLLECTION)).body())]


@contextmanager
def working(
    store: Backend,
    data: Path,
    schedule: RetryPolicy = BUSY,
    lease: LeaderLock | None = None,
    now: Callable[[], float] = time.time,
    allowed: Sequence[str] = ("127.0.0.1",),
) -> Iterator[Worker]:
    """A worker over the store, meanwhile."""
    guard = SsrfGuard(allowed)
    worker = Worker(
        store, SecretCipher(data), lease or LeaderLock(None), lambda: WebhookClient(guard, seconds=2.0), schedule, now
    )
    worker.start()
    try:
        yield worker
    finally:
        worker.close()


def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until something is so; fails when that takes too long."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def ids(receiver: Receiver) -> list[str]:
    """The ids that came, in order."""
    return [headers["webhook-id"] for _, headers, _ in list(receiver.requests)]


def verified(request: tuple[str, Mapping[str, str], bytes], secret: str = SECRET) -> Any:
    """The event of a request, as a receiver verifies it. Raises WebhookVerificationError."""
    _, headers, body = request
    return Webhook(secret).verify(body, dict(headers))


def replying(replies: Callable[[int], bytes]) -> Behaviour:
    """Answer the request of each number, from 1, with what the function says."""

    def behave(receiver: Receiver, stream: socket.socket) -> None:
        while read_request(receiver, stream):
            stream.sendall(replies(len(receiver.requests)))

    return behave


def hanging(receiver: Receiver, stream: socket.socket) -> None:
    """Read and say nothing."""
    while read_request(receiver, stream):
        pass


def status(code: int, **headers: str) -> bytes:
    """An answer."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {code} X\r\n{lines}Content-Length: 5\r\n\r\nwords".encode()
