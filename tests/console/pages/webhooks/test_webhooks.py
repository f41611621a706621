"""Pages `/webhooks`: create, show the secret once, pause, test, rotate, replay and delete."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from hashlib import sha256

import pytest
from markupsafe import escape

from chalk_flask.outbox import Subscription
from chalk_flask.outbox.subscription import Mode
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import format_timestamp, utc_now
from chalk_flask.webhooks import WebhookRequest, WebhookStore
from tests.console.pages.credentials.test_api_tokens import CORPUS
from tests.support.console.client import Console, find_form, links_of, visible_text
from tests.support.receiver import respond, run_receiver
from tests.webhooks.conftest import audit_events, queue_deliveries

LIST, NEW = "/webhooks", "/webhooks/new"
URL = "https://tool.example.org/hooks"


def path_of(webhook: Subscription) -> str:
    return f"{LIST}/{webhook.id}"


def secret_in(text: str) -> str | None:
    found = re.search(r'id="secret-value"[^>]*>([^<]+)<', text)
    return html.unescape(found[1]) if found else None


def test_new_webhook_shows_its_secret_once(console: Console, webhooks: WebhookStore) -> None:
    console.sign_in("owner")
    page = console.submit(NEW, action=LIST, url=URL, label="Learning platform")
    [webhook] = webhooks.list("default")
    assert [secret_in(page.text)] == webhooks.secrets(webhook)
    assert secret_in(console.get(path_of(webhook)).text) is None
    assert (webhook.label, webhook.events, webhook.entities, webhook.mode) == (
        "Learning platform",
        frozenset(),
        frozenset(),
        "batched",
    )
    assert path_of(webhook) in links_of(console.get(LIST).text)


def test_options_of_the_form_are_those_of_the_command(console: Console, webhooks: WebhookStore) -> None:
    console.sign_in("owner")
    console.submit(
        NEW,
        action=LIST,
        url=URL,
        events=["*.created", "sync.completed"],
        entities=["user", "class"],
        mode="per_entity",
        full="y",
        initial="y",
        other_orgs="unknown-org",
        excluded=["email"],
        other_fields="user.phone, metadata.note",
    )
    [webhook] = webhooks.list("default")
    mode: Mode = "per_entity"
    request = WebhookRequest(
        url=URL,
        root=webhook.root,
        events=["*.created", "sync.completed"],
        entities=["user", "class"],
        orgs=["unknown-org"],
        excluded=["email", "user.phone", "metadata.note"],
        mode=mode,
        full=True,
        initial=True,
    )
    same = webhooks.create("default", request).subscription.to_dict()
    fields = webhook.to_dict()
    for name in ("id", "created"):
        del same[name], fields[name]
    assert fields == same


def test_events_by_name_replace_the_choices(console: Console, webhooks: WebhookStore) -> None:
    console.sign_in("owner")
    console.submit(NEW, action=LIST, url=URL, other_events="user.created, class.deleted")
    assert webhooks.list("default")[0].events == {"user.created", "class.deleted"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": ""}, "Enter the URL of the receiver."),
        ({"url": "http://tool.example.org/"}, "Plain http to tool.example.org is forbidden"),
        ({"url": "https://10.0.0.1/"}, "The address 10.0.0.1 is not public"),
        ({"url": "https://router.local/"}, "is a local network name"),
        ({"url": "https://user:pass@tool.example.org/"}, "The URL contains a user or a password"),
        ({"url": "nonsense"}, "Invalid URL"),
        ({"url": URL, "events": None}, "Choose at least one."),
        ({"url": URL, "other_events": "user.exploded"}, "Unknown event 'user.exploded'"),
        ({"url": URL, "other_fields": "sourcedId"}, "sourcedId cannot be excluded"),
        ({"url": URL, "label": "x" * 201}, "longer than 200"),
        ({"url": URL, "other_orgs": "\n".join(map(str, range(1001)))}, "Too many entries"),
    ],
)
def test_invalid_webhook_is_rejected(
    console: Console, webhooks: WebhookStore, fields: dict[str, object], message: str
) -> None:
    console.sign_in("owner")
    page = console.submit(NEW, action=LIST, status=422, **fields)  # type: ignore[arg-type]  # fields
    assert message in visible_text(page.text)
    assert not webhooks.list("default")


def test_demographics_require_the_opt_in_of_the_tenant(console: Console, webhooks: WebhookStore) -> None:
    TenantStore(console.services.store).update("default", demographics=False)
    console.sign_in("owner")
    page = console.submit(NEW, action=LIST, status=422, url=URL, entities=["demographics"])
    assert "The tenant has not opted in to demographics" in visible_text(page.text)
    assert not webhooks.list("default")


def test_webhook_is_paused_and_resumed(console: Console, webhooks: WebhookStore, webhook: Subscription) -> None:
    console.sign_in("editor")
    page = console.submit(path_of(webhook), action=f"{path_of(webhook)}/pause")
    assert "Changes are queued until you resume it." in visible_text(page.text)
    assert webhooks.list("default")[0].state == "paused"
    queue_deliveries(console.services.store, webhook, 2)
    page = console.submit(path_of(webhook), action=f"{path_of(webhook)}/resume")
    assert "Pending deliveries: 2." in visible_text(page.text)
    assert webhooks.list("default")[0].state == "active"


def test_test_event_shows_the_response_of_the_receiver(console: Console, webhooks: WebhookStore) -> None:
    console.sign_in("editor")
    body = b"<script>alert(1)</script>"
    response = b"HTTP/1.1 500 Error\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with run_receiver(respond(response)) as receiver:
        webhook = webhooks.create("default", WebhookRequest(url=receiver.url, root="")).subscription
        page = console.submit(path_of(webhook), action=f"{path_of(webhook)}/test")
    assert len(receiver.requests) == 1
    assert "The test event was not delivered: status 500." in visible_text(page.text)
    assert body.decode() not in page.text
    assert str(escape(body.decode())) in page.text


def test_secret_is_rotated_and_shown_once(console: Console, webhooks: WebhookStore, webhook: Subscription) -> None:
    console.sign_in("owner")
    before = webhooks.secrets(webhook)
    page = console.submit(path_of(webhook), action=f"{path_of(webhook)}/rotate", overlap="24")
    [rotated] = webhooks.list("default")
    assert webhooks.secrets(rotated) == [secret_in(page.text), *before]
    assert secret_in(console.get(path_of(webhook)).text) is None


def test_deliveries_of_a_period_are_sent_again(console: Console, webhook: Subscription, webhooks: WebhookStore) -> None:
    console.sign_in("editor")
    store = console.services.store
    queue_deliveries(store, webhook, 2, "delivered", format_timestamp(utc_now()))
    page = console.submit(path_of(webhook), action=f"{path_of(webhook)}/replay", since="1")
    assert "Queued deliveries: 2." in visible_text(page.text)
    page = console.submit(path_of(webhook), action=f"{path_of(webhook)}/replay", since="672")
    assert "There is nothing to send again" in visible_text(page.text)


def test_webhook_is_deleted(console: Console, webhooks: WebhookStore, webhook: Subscription) -> None:
    console.sign_in("owner")
    page = console.submit(path_of(webhook), action=f"{path_of(webhook)}/delete")
    assert "are deleted" in visible_text(page.text)
    assert not webhooks.list("default")
    assert [event for event, _ in audit_events(console.services.store)] == ["webhook.created", "webhook.deleted"]
    console.get(path_of(webhook), 404)


def test_viewer_sees_neither_buttons_nor_the_path_of_the_url(console: Console, webhook: Subscription) -> None:
    console.sign_in("viewer")
    for path in (LIST, path_of(webhook)):
        page = console.get(path).text
        assert "https://tool.example.org/…" in page
        assert "hush" not in page
        assert "/pause" not in page
        assert NEW not in page


def test_webhook_of_another_tenant_is_not_found(console: Console, webhook: Subscription) -> None:
    console.sign_in("owner", "west")
    console.get(path_of(webhook), 404)
    assert webhook.label not in console.get(LIST).text


def test_page_of_a_disabled_webhook_says_why(console: Console, webhook: Subscription) -> None:
    disabled = replace(webhook, state="disabled", reason="<b>410 Gone</b>")
    with console.services.store.write("default") as transaction:
        transaction.put("webhooks", [disabled.to_record()])
    console.sign_in("editor")
    page = console.get(path_of(webhook)).text
    assert "&lt;b&gt;410 Gone&lt;/b&gt;" in page
    assert f"{path_of(webhook)}/pause" not in page
    assert f"{path_of(webhook)}/replay" not in page


@pytest.mark.parametrize("text", [text for text in CORPUS if text.isprintable()])
def test_label_and_url_are_escaped(console: Console, webhooks: WebhookStore, text: str) -> None:
    console.sign_in("owner")
    created = webhooks.create("default", WebhookRequest(url=f"{URL}?q='\"<b>", root="", label=text))
    for path in (LIST, path_of(created.subscription)):
        page = console.get(path).text
        assert str(escape(text)) in page
        assert "<b>" not in page
        assert not re.search(r"<(script|svg|img)[^>]*(alert|onload|onerror)", page)


def test_many_unknown_schools_do_not_hide_the_secret(console: Console, webhooks: WebhookStore) -> None:
    console.sign_in("owner")
    orgs = "\n".join(sha256(str(number).encode()).hexdigest() for number in range(150))
    form = find_form(console.get(NEW).text, LIST)
    response = console.post(LIST, {**form.values.to_dict(), "url": URL, "events": "*.created", "other_orgs": orgs})
    assert len(response.headers["Set-Cookie"]) < 4000
    page = console.get(response.headers["Location"])
    assert secret_in(page.text) is not None
    assert "and 145 more." in visible_text(page.text)
