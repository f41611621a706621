"""Application whose webhooks may use this machine, and a webhook in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.outbox import Subscription
from chalk_flask.webhooks import SsrfGuard, WebhookRequest, WebhookStore
from tests.conftest import services_of
from tests.support.console.client import Console, fill_console_store


@pytest.fixture(scope="module")
def webhook_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    app = create_app(storage="memory:", data=str(tmp_path_factory.mktemp("data")), webhook_allowed_hosts="127.0.0.1")
    yield app
    services_of(app).access_log.close()
    services_of(app).store.close()


@pytest.fixture
def console_app(webhook_app: Flask) -> Flask:
    fill_console_store(webhook_app)
    return webhook_app


@pytest.fixture
def webhooks(console: Console) -> WebhookStore:
    settings = console.services.settings
    return WebhookStore(console.services.store, SecretCipher(settings.data), SsrfGuard(["127.0.0.1"]))


@pytest.fixture
def webhook(webhooks: WebhookStore) -> Subscription:
    request = WebhookRequest(url="https://tool.example.org/hooks?key=hush", root="", label="Learning platform")
    return webhooks.create("default", request).subscription
