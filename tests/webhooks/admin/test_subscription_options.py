"""What a webhook may ask for, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends import Backend, open_store
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.outbox.event import ACTIONS, ENTITIES
from chalk_flask.outbox.subscription import COLLECTION
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import TenantError, TenantStore
from chalk_flask.webhooks.admin.store import MAX_WEBHOOKS, WebhookError, WebhookStore
from chalk_flask.webhooks.http.ssrf_guard import SsrfGuard
from tests.webhooks.conftest import ALLOWED, URL, asked, held, made, told


def test_a_webhook_is_kept_as_it_was_asked_for_and_noted(webhooks: WebhookStore, store: Backend) -> None:
    created = webhooks.create("default", asked(label=" Tool ", events=["user.*"], orgs=["o-1"], excluded=["email"]))
    [webhook] = webhooks.list("default")
    assert webhook == created.subscription
    assert (webhook.label, webhook.url, webhook.tenant, webhook.state) == ("Tool", URL, "default", "active")
    assert (webhook.mode, webhook.full, webhook.initial) == ("batched", False, False), "thin and batched by default"
    assert webhook.events == {"user.created", "user.updated", "user.deleted"}
    assert (webhook.orgs, webhook.excluded) == (frozenset({"o-1"}), frozenset({"email"}))
    assert not webhook.entities
    assert created.unknown_orgs == ["o-1"]
    [(event, entry)] = told(store)
    assert (event, entry["id"], entry["label"]) == ("webhook.created", webhook.id, "Tool")
    assert "url" not in entry, "a URL may hold a token"


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        (["user.created"], {"user.created"}),
        (["users.created", "academicSession.deleted"], {"user.created", "academic_session.deleted"}),
        (["*.deleted"], {f"{entity}.deleted" for entity in ENTITIES}),
        (["sync.*"], {"sync.completed"}),
        (["category.*", "sync.completed"], {f"category.{a}" for a in ACTIONS} | {"sync.completed"}),
        (["*"], set()),
        ([], set()),
    ],
)  # fmt: skip
def test_events_are_named_or_matched(webhooks: WebhookStore, named: list[str], meant: set[str]) -> None:
    assert made(webhooks, events=named).events == meant


def test_entities_have_the_names_of_the_standard_as_well(webhooks: WebhookStore) -> None:
    names = ["academicSession", "users", "line_item", "orgs"]
    assert made(webhooks, entities=names).entities == {"academic_session", "user", "line_item", "org"}


def test_excluded_fields_are_those_of_the_resources(webhooks: WebhookStore) -> None:
    names = ["email", "user.phone", "users.sms", "metadata.note", "metadata.*", "org.metadata.a.b", "class.resources"]
    kept = {"email", "user.phone", "user.sms", "metadata.note", "metadata", "org.metadata.a.b", "class.resources"}
    assert made(webhooks, excluded=names).excluded == kept


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"url": "http://tool.example.org/"}, "https only"),
        ({"url": "https://10.0.0.7/"}, "not public"),
        ({"url": "ftp://tool.example.org/"}, "https://"),
        ({"url": "https://user:pw@tool.example.org/"}, "password"),
        ({"events": ["usr.created"]}, "did you mean user.created?"),
        ({"events": ["users.changed"]}, "there is no event 'users.changed'"),
        ({"events": ["[u]ser.*"]}, "there is no event"),
        ({"events": [""]}, "there is no event"),
        ({"events": ["webhook.test"]}, "there is no event"),
        ({"events": ["sync.changes"]}, "there is no event"),
        ({"events": ["demographics.*"]}, "--entity demographics"),
        ({"events": ["user.*"], "entities": ["class"]}, "nothing would ever be told"),
        ({"entities": ["student"]}, "there is no entity 'student'"),
        ({"entities": ["enrolments"]}, "did you mean enrollments?"),
        ({"orgs": [" "]}, "blanks"),
        ({"orgs": [str(n) for n in range(1001)]}, "1000 of a kind"),
        ({"excluded": ["sourcedId"]}, "sourcedId cannot be excluded"),
        ({"excluded": ["user.status"]}, "status cannot be excluded"),
        ({"excluded": ["dateLastModified"]}, "cannot be excluded"),
        ({"excluded": ["user.courseCode"]}, "there is no field 'user.courseCode'"),
        ({"excluded": ["emial"]}, "did you mean email?"),
        ({"excluded": ["userIds.identifier"]}, "there is no field"),
        ({"excluded": ["user.metadata."]}, "there is no field"),
        ({"label": "x" * 201}, "a label is"),
        ({"label": "two\nlines"}, "a label is"),
    ],
)  # fmt: skip
def test_what_will_not_do_is_refused_with_the_reason(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    with open_store("memory:", COLLECTIONS) as store:
        with pytest.raises(WebhookError) as refused:
            WebhookStore(store, SecretCipher(tmp_path), SsrfGuard()).create("default", asked(**given))
        assert says in str(refused.value)
        assert not held(store, COLLECTION)
        assert not told(store)


def test_an_unknown_tenant_has_no_webhooks(webhooks: WebhookStore) -> None:
    for name in ("north", "_control", "../x"):
        with pytest.raises(TenantError):
            webhooks.create(name, asked())
    assert webhooks.list("north") == []


def test_a_tenant_has_so_many_webhooks_and_no_more(tmp_path: Path) -> None:
    with open_store("memory:", COLLECTIONS) as store:
        webhooks = WebhookStore(store, SecretCipher(tmp_path), ALLOWED)
        for _ in range(MAX_WEBHOOKS):
            made(webhooks)
        with pytest.raises(WebhookError, match=f"{MAX_WEBHOOKS} webhooks at most"):
            webhooks.create("default", asked())
        TenantStore(store).create("north")
        assert made(webhooks, "north").tenant == "north"


def test_demographics_are_for_tenants_that_opted_in(webhooks: WebhookStore, store: Backend) -> None:
    assert "demographics" not in made(webhooks).entity_types
    assert made(webhooks, entities=["demographics"], events=["demographics.*"]).entity_types == {"demographics"}
    tenants = TenantStore(store)
    tenants.create("north")
    with pytest.raises(WebhookError, match="tenant set north --demographics"):
        webhooks.create("north", asked(entities=["demographics"]))
    tenants.update("north", demographics=True)
    assert made(webhooks, "north", entities=["demographics"]).entity_types == {"demographics"}
