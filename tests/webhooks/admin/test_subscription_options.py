"""Options of a new webhook: accepted names, and the reason for each rejection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends import Backend, open_store
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.outbox.event import ACTIONS, ENTITIES, IMPORT_EVENTS
from chalk_flask.outbox.subscription import COLLECTION
from chalk_flask.storage import COLLECTIONS
from chalk_flask.webhooks import SsrfGuard, WebhookError, WebhookStore
from tests.webhooks.conftest import audit_events, create_webhook, make_request, stored_keys


@pytest.mark.parametrize(
    ("patterns", "events"),
    [
        (["user.created"], {"user.created"}),
        (["users.created", "academicSession.deleted"], {"user.created", "academic_session.deleted"}),
        (["*.deleted"], {f"{entity}.deleted" for entity in ENTITIES}),
        (["sync.*"], {"sync.completed"}),
        (["import.*"], set(IMPORT_EVENTS)),
        (["sync.*", "import.held"], {"sync.completed", "import.held"}),
        (["category.*", "sync.completed"], {f"category.{a}" for a in ACTIONS} | {"sync.completed"}),
        (["*"], set()),
        ([], set()),
    ],
)  # fmt: skip
def test_events_are_names_or_patterns(webhooks: WebhookStore, patterns: list[str], events: set[str]) -> None:
    assert create_webhook(webhooks, events=patterns).events == events


def test_entities_accept_names_of_the_standard(webhooks: WebhookStore) -> None:
    names = ["academicSession", "users", "line_item", "orgs"]
    assert create_webhook(webhooks, entities=names).entities == {"academic_session", "user", "line_item", "org"}


def test_excluded_fields_are_stored_by_entity(webhooks: WebhookStore) -> None:
    names = ["email", "user.phone", "users.sms", "metadata.note", "metadata.*", "org.metadata.a.b", "class.resources"]
    stored = {"email", "user.phone", "user.sms", "metadata.note", "metadata", "org.metadata.a.b", "class.resources"}
    assert create_webhook(webhooks, excluded=names).excluded == stored


@pytest.fixture(scope="module")
def empty_store() -> Any:
    with open_store("memory:", COLLECTIONS) as store:
        yield store


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "http://tool.example.org/"}, "use https"),
        ({"url": "https://10.0.0.7/"}, "not public"),
        ({"url": "ftp://tool.example.org/"}, "https://"),
        ({"url": "https://user:pw@tool.example.org/"}, "password"),
        ({"events": ["usr.created"]}, "did you mean user.created?"),
        ({"events": ["users.changed"]}, "unknown event 'users.changed'"),
        ({"events": ["[u]ser.*"]}, "unknown event"),
        ({"events": [""]}, "unknown event"),
        ({"events": ["import.*"], "orgs": ["s-1"]}, "import.rejected cannot be limited to orgs"),
        ({"events": ["webhook.test"]}, "unknown event"),
        ({"events": ["sync.changes"]}, "unknown event"),
        ({"events": ["demographics.*"]}, "--entity demographics"),
        ({"events": ["user.*"], "entities": ["class"]}, "would never get a delivery"),
        ({"entities": ["student"]}, "unknown entity 'student'"),
        ({"entities": ["enrolments"]}, "did you mean enrollments?"),
        ({"orgs": [" "]}, "blank"),
        ({"orgs": [str(n) for n in range(1001)]}, "1001; the maximum is 1000"),
        ({"excluded": ["sourcedId"]}, "sourcedId cannot be excluded"),
        ({"excluded": ["user.status"]}, "status cannot be excluded"),
        ({"excluded": ["dateLastModified"]}, "cannot be excluded"),
        ({"excluded": ["user.courseCode"]}, "unknown field 'user.courseCode'"),
        ({"excluded": ["emial"]}, "did you mean email?"),
        ({"excluded": ["userIds.identifier"]}, "unknown field"),
        ({"excluded": ["user.metadata."]}, "unknown field"),
        ({"label": "two\nlines"}, "a label must be"),
    ],
)  # fmt: skip
def test_invalid_option_is_rejected_with_the_reason(
    options: dict[str, Any], message: str, empty_store: Backend, tmp_path: Path
) -> None:
    with pytest.raises(WebhookError) as raised:
        WebhookStore(empty_store, SecretCipher(tmp_path), SsrfGuard()).create("default", make_request(**options))
    assert message in str(raised.value)
    assert not stored_keys(empty_store, COLLECTION)
    assert not audit_events(empty_store)
