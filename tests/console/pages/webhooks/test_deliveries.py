"""Deliveries of a webhook: list by state and page, attempts, body without demographics, and sending again."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import orjson
import pytest

from backends import Backend
from chalk_flask.admins import Role
from chalk_flask.outbox import Delivery, Subscription
from chalk_flask.outbox.delivery import BODIES, enqueue
from chalk_flask.outbox.event import build_message
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import format_timestamp, utc_now
from chalk_flask.webhooks import WebhookRequest, WebhookStore
from tests.support.console.client import Console, find_form, visible_text
from tests.webhooks.conftest import queue_deliveries


def path_of(delivery: Delivery) -> str:
    return f"/webhooks/{delivery.webhook}/deliveries/{delivery.event_id}"


def listed_in(page: str) -> list[str]:
    """Return the paths of the deliveries in the list, in its order."""
    return re.findall('<th scope="row"><a href="([^"]*)"', page)


def queue_change(store: Backend, webhook: Subscription, *changes: dict[str, Any]) -> Delivery:
    """Queue a delivery of these changes."""
    now = format_timestamp(utc_now())
    data = {"batch": {"changes": list(changes)}}
    message = build_message("sync.completed", webhook.id, webhook.tenant, now, None, 1, data)
    with store.write(webhook.tenant) as transaction:
        [delivery] = enqueue(transaction, [(webhook.id, message)], now, 1.0)
    return delivery


def change(entity_type: str, **entity: object) -> dict[str, Any]:
    return {"entity_type": entity_type, "action": "created", "sourced_id": "one", "sequence": 1, "entity": entity}


def test_deliveries_are_listed_by_state(console: Console, webhook: Subscription) -> None:
    store = console.services.store
    failed = queue_deliveries(store, webhook, 1, "failed")
    queue_deliveries(store, webhook, 52, "delivered")
    console.sign_in("viewer")
    path = f"/webhooks/{webhook.id}"
    page = console.get(path, state="failed").text
    assert listed_in(page) == [path_of(failed[0])]
    assert "Older deliveries" not in page
    assert len(listed_in(console.get(path, state="delivered").text)) == 50
    console.get(f"/webhooks/{webhook.id}", 404, state="exploded")


def test_pages_list_every_delivery_once_newest_first(console: Console, webhook: Subscription) -> None:
    store = console.services.store
    queued = [
        path_of(delivery)
        for state in ("pending", "failed", "delivered", "pending", "delivered")
        for delivery in queue_deliveries(store, webhook, 23, state)
    ]
    console.sign_in("viewer")
    listed, url = [], f"/webhooks/{webhook.id}"
    while url:
        page = console.get(url).text
        listed += listed_in(page)
        older = re.search('rel="next" href="([^"#]*)', page)
        url = unescape(older[1]) if older else ""
    assert listed == queued[::-1]
    assert "Newest deliveries" in page


@pytest.mark.parametrize("before", ["x", "9" * 5000, "²", "-1"], ids=["text", "long", "superscript", "negative"])
def test_invalid_place_of_a_page_lists_the_newest(console: Console, webhook: Subscription, before: str) -> None:
    [delivery] = queue_deliveries(console.services.store, webhook, 1, "delivered")
    console.sign_in("viewer")
    assert listed_in(console.get(f"/webhooks/{webhook.id}", before=before).text) == [path_of(delivery)]


def test_chart_counts_deliveries_by_day(console: Console, webhook: Subscription) -> None:
    store, now = console.services.store, format_timestamp(utc_now())
    queue_deliveries(store, webhook, 3, "delivered", now)
    queue_deliveries(store, webhook, 2, "failed", now)
    queue_deliveries(store, webhook, 1, "pending", now)
    console.sign_in("viewer")
    page = visible_text(console.get(f"/webhooks/{webhook.id}").text)
    assert f"{now[5:10]}, Delivered: 3" in page
    assert f"{now[5:10]}, Failed: 2" in page
    assert f"{now[5:10]}, Pending: 1" in page


def test_page_shows_attempts_and_escaped_body(console: Console, webhook: Subscription) -> None:
    name = "<script>alert(1)</script>"
    delivery = queue_change(console.services.store, webhook, change("user", givenName=name))
    console.sign_in("viewer")
    page = console.get(path_of(delivery)).text
    assert name not in page
    assert name in visible_text(page.replace("&lt;script&gt;", "<x>&lt;script&gt;"))
    download = console.get(f"{path_of(delivery)}/body")
    assert download.mimetype == "application/json"
    assert download.headers["Content-Disposition"] == f'attachment; filename="{delivery.event_id}.json"'
    assert orjson.loads(download.data)["data"]["batch"]["changes"][0]["entity"] == {"givenName": name}


def test_demographics_are_not_shown(console: Console, webhook: Subscription) -> None:
    store = console.services.store
    delivery = queue_change(store, webhook, change("demographics", sex="x-female"), change("user", givenName="Kim"))
    console.sign_in("owner")
    page = console.get(path_of(delivery)).text
    assert "x-female" not in page
    assert "Kim" in page
    assert "1 record of demographics is sent to the receiver, but not shown here" in visible_text(page)
    assert b"x-female" not in console.get(f"{path_of(delivery)}/body").data


def test_single_demographics_record_is_not_shown(console: Console, webhook: Subscription) -> None:
    now = format_timestamp(utc_now())
    data = {"single": change("demographics", sex="x-female")}
    message = build_message("demographics.created", webhook.id, "default", now, None, 1, data)
    with console.services.store.write("default") as transaction:
        [delivery] = enqueue(transaction, [(webhook.id, message)], now, 1.0)
    console.sign_in("owner")
    assert "x-female" not in console.get(path_of(delivery)).text


@pytest.mark.parametrize("role", ["viewer", "owner"])
def test_response_of_a_receiver_of_demographics_is_not_shown(
    console: Console, webhooks: WebhookStore, webhook: Subscription, role: Role
) -> None:
    store = console.services.store
    TenantStore(store).update("default", demographics=True)
    request = WebhookRequest(url="https://tool.example.org/hooks", root="", entities=["demographics"])
    receiving = webhooks.create("default", request).subscription
    deliveries = [queue_deliveries(store, each, 1, "failed")[0] for each in (receiving, webhook)]
    console.sign_in(role)
    hidden, shown = (console.get(path_of(delivery)).text for delivery in deliveries)
    assert "well" not in visible_text(hidden)
    assert "A response may repeat them, so it is not shown here." in visible_text(hidden)
    assert "status 500" in visible_text(hidden)
    assert "well" in visible_text(shown)


def test_long_body_is_cut_and_complete_in_the_download(console: Console, webhook: Subscription) -> None:
    delivery = queue_change(console.services.store, webhook, *(change("user", number=number) for number in range(2000)))
    console.sign_in("viewer")
    page = console.get(path_of(delivery))
    assert len(page.data) < 60_000
    assert "This is the beginning of the body." in visible_text(page.text)
    assert len(orjson.loads(console.get(f"{path_of(delivery)}/body").data)["data"]["batch"]["changes"]) == 2000


def test_body_that_an_opt_out_deleted_is_explained(console: Console, webhook: Subscription) -> None:
    [delivery] = queue_deliveries(console.services.store, webhook, 1, "delivered")
    with console.services.store.write("default") as transaction:
        transaction.delete(BODIES, [delivery.key])
    console.sign_in("editor")
    page = console.get(path_of(delivery)).text
    assert "The body is not stored any more" in page
    console.get(f"{path_of(delivery)}/body", 404)


def test_delivery_is_sent_again(console: Console, webhook: Subscription) -> None:
    [delivery] = queue_deliveries(console.services.store, webhook, 1, "failed")
    console.sign_in("editor")
    page = console.submit(path_of(delivery), action=f"{path_of(delivery)}/replay")
    assert "The delivery is queued again." in visible_text(page.text)
    assert "Pending" in visible_text(page.text)


def test_delivery_of_another_webhook_or_tenant_is_not_found(console: Console, webhook: Subscription) -> None:
    [delivery] = queue_deliveries(console.services.store, webhook, 1)
    console.sign_in("owner")
    console.get(f"/webhooks/wh-unknown/deliveries/{delivery.event_id}", 404)
    console.get(f"/webhooks/{webhook.id}/deliveries/evt-unknown", 404)
    token = find_form(console.get("/webhooks/new").text, "/webhooks").values["csrf_token"]
    fields = {"csrf_token": token, "tenant": "default"}
    console.post(f"/webhooks/{webhook.id}/deliveries/evt-unknown/replay", fields, 404)
    console.sign_in("owner", "west")
    console.get(path_of(delivery), 404)


def test_chart_counts_a_limited_number_of_deliveries(console: Console, webhook: Subscription) -> None:
    now = utc_now()
    queue_deliveries(console.services.store, webhook, 30, "failed", format_timestamp(now - timedelta(days=1)))
    queue_deliveries(console.services.store, webhook, 990, "delivered", format_timestamp(now))
    console.sign_in("viewer")
    page = visible_text(console.get(f"/webhooks/{webhook.id}").text)
    assert "Newest 1,000 deliveries" in page
    assert f"{now:%m-%d}, Delivered: 990" in page
    assert f"{now - timedelta(days=1):%m-%d}, Failed: 10" in page
