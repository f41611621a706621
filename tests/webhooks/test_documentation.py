"""Webhooks page of the documentation: its code works with real deliveries, and its numbers match the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from backends import Backend, open_store
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.background.leader_lock import LeaderLock
from chalk_flask.outbox.delivery import RETENTION_DAYS
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.storage import COLLECTIONS
from chalk_flask.webhooks import WebhookClient, WebhookRequest, WebhookStore, Worker
from chalk_flask.webhooks.admin.store import MAX_WEBHOOKS
from chalk_flask.webhooks.delivery.retry_policy import RETRY_DELAYS_SECONDS, RetryPolicy
from chalk_flask.webhooks.http.client import TIMEOUT_SECONDS
from tests.support.deliveries import wait_until
from tests.support.packages import PackageBuilder
from tests.support.receiver import Receiver, respond, run_receiver
from tests.webhooks.conftest import LOCAL_GUARD
from tests.webhooks.events_table import PAGE, render_page

TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Receiver]]:
    """Secret of a webhook, and a receiver that got the changes of an import."""
    folder = tmp_path_factory.mktemp("page")
    with (
        run_receiver(respond(b"HTTP/1.1 204 Ok\r\nContent-Length: 0\r\n\r\n")) as receiver,
        open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store,
    ):
        load(store, PackageBuilder(), folder)
        request = WebhookRequest(
            url=receiver.url, root="/api/oneroster/v1p1", mode="per_entity", full=True, entities=["users"]
        )
        secret = WebhookStore(store, SecretCipher(folder), LOCAL_GUARD).create("default", request).secret
        load(store, PackageBuilder().set("users", "pupil-1", givenName="Zoë").drop("users", "pupil-2"), folder)
        worker = Worker(store, SecretCipher(folder), LeaderLock(None), lambda: WebhookClient(LOCAL_GUARD))
        worker.start()
        wait_until(lambda: len(receiver.requests) >= 3)
        worker.close()
        yield secret, receiver


def load(store: Backend, package: PackageBuilder, folder: Path) -> None:
    assert import_package(store, "default", package.folder(folder / "package"), ImportOptions()).state == "committed"


@pytest.fixture(scope="module")
def definitions(deliveries: tuple[str, Receiver]) -> dict[str, Any]:
    """Names that the Python code of the page defines."""
    namespace: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SECRET", deliveries[0])
        for block in re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
            exec(block, namespace)
    return namespace


def test_table_of_events_is_up_to_date() -> None:
    assert render_page(TEXT) == TEXT, "run: python -m tests.webhooks.events_table"


def test_both_verifications_accept_deliveries_and_nothing_else(
    definitions: dict[str, Any], deliveries: tuple[str, Receiver]
) -> None:
    secret, receiver = deliveries
    for _, headers, body in receiver.requests:
        event = definitions["verify"](secret, headers, body)
        assert event == definitions["verify_chalk_signature"](secret, headers, body) == json.loads(body)
        assert headers["x-chalk-event-id"] == headers["webhook-id"] == event["event_id"]
        assert headers["x-chalk-webhook-id"] == event["webhook_id"]
        assert headers["x-chalk-security-mode"] == "sign_only"
        for wrong_secret, wrong_body in ((secret, body + b" "), ("whsec_" + secret[:5:-1], body)):
            with pytest.raises(ValueError, match="invalid signature"):
                definitions["verify_chalk_signature"](wrong_secret, headers, wrong_body)
        with pytest.raises(WebhookVerificationError):
            definitions["verify"](secret, headers, body + b" ")


def test_receiver_of_the_quick_start_receives(definitions: dict[str, Any], deliveries: tuple[str, Receiver]) -> None:
    client = definitions["app"].test_client()
    for _, headers, body in deliveries[1].requests:
        forwarded = {name: value for name, value in headers.items() if name != "host"}
        assert client.post("/hooks", data=body, headers=forwarded).status_code == 204
        assert definitions["events"].get_nowait() == json.loads(body)


def test_copy_follows_the_events(definitions: dict[str, Any], deliveries: tuple[str, Receiver]) -> None:
    receiver, seen_ids = deliveries[1], set[str]()
    copy: dict[tuple[str, str], Any] = {("user", "pupil-2"): {}, ("user", "teacher-1"): {"unchanged": True}}
    for _ in range(2):
        for _, _, body in receiver.requests:
            definitions["receive"](
                json.loads(body), seen_ids, copy, lambda *key: pytest.fail(f"{key} was sent as a full record")
            )
        assert copy.keys() == {("user", "pupil-1"), ("user", "teacher-1")}
        assert copy["user", "pupil-1"]["givenName"] == "Zoë"
    thin = json.loads(receiver.requests[0][2]) | {"event_id": "evt-thin"}
    del thin["data"]["single"]["entity"]
    definitions["receive"](thin, seen_ids, copy, lambda *key: {"read": key})
    assert copy["user", "pupil-1"] == {"read": ("user", "pupil-1")}


def test_example_body_has_the_members_of_a_delivery(deliveries: tuple[str, Receiver]) -> None:
    [block] = re.findall(r"^```json\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    example, body = json.loads(block), json.loads(deliveries[1].requests[0][2])
    assert list(example) == list(body)
    assert [*example["data"]["single"], "entity"] == list(body["data"]["single"])


def test_numbers_of_the_page_match_the_code() -> None:
    text = " ".join(TEXT.split())
    assert (5, 300, 1800, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24))) == RETRY_DELAYS_SECONDS
    assert "5 seconds, 5 minutes, 30 minutes, 2, 5, 10, 14, 20 and 24 hours, each 10 % earlier or later" in text
    assert (RetryPolicy().jitter, RetryPolicy().disable_after) == (0.1, 5 * 86_400)
    assert f"within {TIMEOUT_SECONDS:g} seconds" in text
    assert f"stored for {RETENTION_DAYS} days" in text
    assert f"up to {MAX_WEBHOOKS} webhooks" in text
