"""docs/webhooks.md says what is, and its code does what it says with real deliveries."""

from __future__ import annotations

import json
import queue
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError
from tests.support.webhooks_page import PAGE, render_page

from backends import Backend, open_store
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.outbox.delivery import RETENTION_DAYS
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from chalk_flask.storage import COLLECTIONS
from chalk_flask.webhooks.admin.store import MAX_WEBHOOKS, WebhookRequest, WebhookStore
from chalk_flask.webhooks.delivery.leader_lock import LeaderLock
from chalk_flask.webhooks.delivery.retry_policy import DELAYS, RetryPolicy
from chalk_flask.webhooks.delivery.worker import Worker
from chalk_flask.webhooks.http.client import SECONDS, WebhookClient
from chalk_flask.webhooks.http.ssrf_guard import SsrfGuard
from tests.support.packages import Made
from tests.support.receiver import Receiver, respond, run_receiver

TEXT = PAGE.read_text(encoding="utf-8")
ALLOWED = SsrfGuard(["127.0.0.1"])


def code() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the blocks of the page define."""
    found: dict[str, Any] = {"app": Flask("receiver"), "queue": queue.Queue(), "request": request, "Webhook": Webhook}
    for block in code():
        exec(block, found)
    return found


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Receiver]]:
    """The secret of a webhook, and a receiver to which the worker has delivered what an import changed."""
    folder = tmp_path_factory.mktemp("page")
    with (
        run_receiver(respond(b"HTTP/1.1 204 Ok\r\nContent-Length: 0\r\n\r\n")) as receiver,
        open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store,
    ):
        load(store, Made(), folder)
        asked = WebhookRequest(
            url=receiver.url, root="/api/oneroster/v1p1", mode="per_entity", full=True, entities=["users"]
        )
        secret = WebhookStore(store, SecretCipher(folder), ALLOWED).create("default", asked).secret
        load(store, Made().set("users", "pupil-1", givenName="Zoë").drop("users", "pupil-2"), folder)
        worker = Worker(store, SecretCipher(folder), LeaderLock(None), lambda: WebhookClient(ALLOWED))
        worker.start()
        wait(receiver, 3)
        worker.close()
        yield secret, receiver


def wait(receiver: Receiver, count: int) -> None:
    end = time.monotonic() + 20
    while len(receiver.requests) < count and time.monotonic() < end:
        time.sleep(0.02)


def load(store: Backend, package: Made, folder: Path) -> None:
    assert import_package(store, "default", package.folder(folder / "package"), ImportOptions()).state == "committed"


def test_the_table_of_events_is_in_step() -> None:
    assert render_page(TEXT) == TEXT, "run: python -m tests.support.webhooks_page"


def test_both_ways_to_verify_take_what_is_delivered_and_nothing_else(
    names: dict[str, Any], delivered: tuple[str, Receiver]
) -> None:
    secret, receiver = delivered
    assert len(receiver.requests) >= 3
    for _, headers, body in receiver.requests:
        event = names["verified"](secret, headers, body)
        assert event == names["verified_as_chalk"](secret, headers, body) == json.loads(body)
        assert headers["x-chalk-event-id"] == headers["webhook-id"] == event["event_id"]
        assert headers["x-chalk-webhook-id"] == event["webhook_id"]
        assert headers["x-chalk-security-mode"] == "sign_only"
        for wrong in ((secret, body + b" "), ("whsec_" + secret[:5:-1], body)):
            with pytest.raises(ValueError, match="not signed"):
                names["verified_as_chalk"](wrong[0], headers, wrong[1])
        with pytest.raises(WebhookVerificationError):
            names["verified"](secret, headers, body + b" ")


def test_the_receiver_of_the_quick_start_receives(names: dict[str, Any], delivered: tuple[str, Receiver]) -> None:
    names["SECRET"], receiver = delivered[0], delivered[1]
    client = names["app"].test_client()
    for _, headers, body in receiver.requests:
        sent = {name: value for name, value in headers.items() if name != "host"}
        assert client.post("/hooks", data=body, headers=sent).status_code == 204
        assert names["queue"].get_nowait() == json.loads(body)


def test_a_copy_is_kept_as_the_page_says(names: dict[str, Any], delivered: tuple[str, Receiver]) -> None:
    receiver, seen = delivered[1], set[str]()
    copy: dict[tuple[str, str], Any] = {("user", "pupil-2"): {}, ("user", "teacher-1"): {"kept": True}}
    for _ in range(2):
        for _, _, body in receiver.requests:
            names["receive"](json.loads(body), seen, copy, lambda *place: pytest.fail(f"{place} was told in full"))
        assert copy.keys() == {("user", "pupil-1"), ("user", "teacher-1")}
        assert copy["user", "pupil-1"]["givenName"] == "Zoë"
    thin = json.loads(receiver.requests[0][2]) | {"event_id": "evt-thin"}
    del thin["data"]["single"]["entity"]
    names["receive"](thin, seen, copy, lambda *place: {"read": place})
    assert copy["user", "pupil-1"] == {"read": ("user", "pupil-1")}


def test_the_members_that_the_page_shows_are_those_of_an_event(delivered: tuple[str, Receiver]) -> None:
    [block] = re.findall(r"^```json\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    shown, real = json.loads(block), json.loads(delivered[1].requests[0][2])
    assert list(shown) == list(real)
    assert [*shown["data"]["single"], "entity"] == list(real["data"]["single"])


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    flat = " ".join(TEXT.split())
    assert (5, 300, 1800, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24))) == DELAYS
    assert "5 seconds, 5 minutes, 30 minutes, 2, 5, 10, 14, 20 and 24 hours, each 10 % sooner or later" in flat
    assert (RetryPolicy().jitter, RetryPolicy().disable_after) == (0.1, 5 * 86_400)
    assert f"within {SECONDS:g} seconds" in flat
    assert f"kept for {RETENTION_DAYS} days" in flat
    assert f"Up to {MAX_WEBHOOKS} webhooks a tenant" in flat
