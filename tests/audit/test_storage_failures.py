"""Background writers on a failing disk: the log has the reason, and later events are stored."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import Backend, open_store
from chalk_flask.audit.events import read_events
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.permissions.scopes import ALL
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import find_audit_tenant
from tests.support.deliveries import wait_until
from tests.support.storage.failures import file_size_limit

REASON = "file size limit"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Backend]:
    with open_store(f"json:///{tmp_path}/chalk", COLLECTIONS) as store:
        yield store


def test_login_log_warns_once_and_stores_the_login_later(store: Backend, caplog: pytest.LogCaptureFixture) -> None:
    log = LoginLog(store, find_audit_tenant, interval=0.02)
    with file_size_limit(20):
        log.record_success("default", "chk_client_1")
        wait_until(lambda: REASON in caplog.text)
        log.record_success("default", "chk_client_1")
    wait_until(lambda: [event["count"] for event in read_events(store, "default")] == [2])
    log.close()
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_tracker_of_last_uses_warns_with_the_reason(store: Backend, caplog: pytest.LogCaptureFixture) -> None:
    tokens = TokenStore(store)
    token, _ = tokens.create("tool", ALL)
    assert token is not None
    with file_size_limit(20):
        principal, _ = tokens.authenticate(token)
        assert principal is not None
        wait_until(lambda: REASON in caplog.text)
    assert token not in caplog.text
