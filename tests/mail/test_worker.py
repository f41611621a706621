"""Mail worker: which outcome reaches whom, once, whatever the mail server and the process do."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from backends import CONTROL, StorageBusyError
from chalk_flask import create_app
from chalk_flask.background.leader_lock import LeaderLock
from chalk_flask.jobs.overdue_imports import enqueue_overdue
from chalk_flask.mail import MailServerSettings, MailWorker
from chalk_flask.notices import NOTICE_EVENTS, MailPreferences
from chalk_flask.notices.queue import MAX_NOTICES, enqueue_notice, list_notices
from chalk_flask.outbox.event import IMPORT_HELD, IMPORT_REJECTED
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.roster.tenant_imports import approve_import, run_import
from chalk_flask.settings import load_settings
from tests.conftest import services_of, url_in
from tests.support.mail.mail_server import MailServer, run_mail_server
from tests.support.packages import PackageBuilder, package_with_users

TO = "it-office@example.org"
PASSWORD = "a quite long password"


@pytest.fixture
def app(backend: str, tmp_path: Path) -> Iterator[Flask]:
    """Service without a roster. The folder `data` is that of the test."""
    app = create_app(storage=url_in(tmp_path / "store", backend), data=str(tmp_path / "data"))
    yield app
    services_of(app).store.close()


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with run_mail_server() as server:
        yield server


def subscribe(app: Flask, name: str = "it-office", tenant: str | None = "default", **choice: Any) -> str:
    """Create an administrator with mail preferences, and return the id."""
    administrators = services_of(app).administrators
    administrator = administrators.create(name, "owner", tenant, PASSWORD)
    preferences = MailPreferences.of(
        choice.get("address", f"{name}@example.org"),
        choice.get("events", NOTICE_EVENTS),
        digest=choice.get("digest", False),
    )
    administrators.set_mail(administrator.id, preferences)
    return administrator.id


def load(app: Flask, package: PackageBuilder, folder: Path, **options: Any) -> ImportReport:
    services = services_of(app)
    path = package.zip(folder / "p.zip")
    return run_import(services.store, services.settings, path, "default", requested_by="test", **options)


@contextmanager
def worker_for(app: Flask, mail: MailServer | None, **options: Any) -> Iterator[MailWorker]:
    """Yield a worker of the service that sends by this mail server."""
    services = services_of(app)
    server = MailServerSettings.of(
        load_settings({**mail.settings, "public_url": "https://roster.example.org"} if mail else {}, {})
    )
    options = {"leader_lock": LeaderLock(None), "digest_hour": 0, **options}
    worker = MailWorker(services.store, server, folder=store_folder(services.settings), retry_delays=(0.0,), **options)
    yield worker
    worker.close()


def deliver(app: Flask, mail: MailServer | None, **options: Any) -> None:
    """Send what is stored, as a new process does."""
    with worker_for(app, mail, **options) as worker:
        worker.run_pending()


def notices(app: Flask) -> list[str]:
    with services_of(app).store.read("default") as snapshot:
        return [notice.event for notice in list_notices(snapshot)]


@pytest.mark.every_backend
def test_each_outcome_is_one_message(app: Flask, mail: MailServer, tmp_path: Path) -> None:
    subscribe(app)
    services = services_of(app)
    load(app, package_with_users(200), tmp_path)
    held = load(app, package_with_users(150), tmp_path)
    rejected = load(app, PackageBuilder().set("users", "pupil-1", role="pilot"), tmp_path)
    load(app, PackageBuilder().set("users", "pupil-1", role="pilot"), tmp_path, dry_run=True)
    approve_import(services.store, services.settings, "default", held.run, requested_by="test")
    enqueue_overdue(services.store, 24, datetime.now(UTC) + timedelta(hours=25))
    for _ in range(2):
        deliver(app, mail)
    assert [subject for _, subject in mail.received()] == [
        "[default] roster imported",
        "[default] import held for approval",
        "[default] import rejected",
        "[default] roster imported",
        "[default] import overdue",
    ]
    assert notices(app) == []
    held_text, rejected_text = (mail.messages[number].get_content() for number in (1, 2))
    assert f"https://roster.example.org/imports/{held.run}\r\n" in held_text
    assert "- users: would delete 50 of 2" in held_text
    assert "https://roster.example.org/account" in held_text
    assert f"Import: {rejected.run}" in rejected_text
    assert "users.csv: 1 x " in rejected_text
    assert "pilot" not in rejected_text
    assert "pupil-1" not in rejected_text


@pytest.mark.every_backend
def test_notices_are_stored_in_the_transaction_of_the_outcome(app: Flask, tmp_path: Path) -> None:
    subscribe(app)

    def fail(*_: object) -> None:
        assert notices(app) == []
        raise OSError("the disk fails after the notice")

    with pytest.raises(OSError, match="the disk fails"):
        load(app, package_with_users(3), tmp_path, on_result=fail)
    assert notices(app) == []
    load(app, package_with_users(3), tmp_path)
    assert notices(app) == ["import.committed"]


def test_only_those_who_chose_an_event_get_it(app: Flask, mail: MailServer, tmp_path: Path) -> None:
    subscribe(app, "operator", None)
    subscribe(app, "held-only", events=[IMPORT_HELD])
    subscribe(app, "no-address", address="")
    subscribe(app, "nothing", events=[])
    load(app, PackageBuilder().set("users", "pupil-1", role="pilot"), tmp_path)
    deliver(app, mail)
    assert mail.received() == [("operator@example.org", "[default] import rejected")]
    held_only = services_of(app).administrators.find("held-only")
    assert held_only is not None
    assert not held_only.mail.wants(IMPORT_REJECTED)


def test_without_a_recipient_nothing_is_stored(app: Flask, tmp_path: Path) -> None:
    subscribe(app, events=[IMPORT_REJECTED])
    version = services_of(app).store.version("default")
    load(app, PackageBuilder().set("users", "pupil-1", role="pilot"), tmp_path, dry_run=True)
    assert services_of(app).store.version("default") == version
    load(app, package_with_users(3), tmp_path)
    assert notices(app) == []


def test_choice_at_the_time_of_sending_counts(app: Flask, mail: MailServer, tmp_path: Path) -> None:
    administrator = subscribe(app)
    load(app, package_with_users(3), tmp_path)
    services_of(app).administrators.set_mail(administrator, MailPreferences())
    deliver(app, mail)
    assert (mail.received(), notices(app)) == ([], [])


def test_failing_mail_server_is_tried_again(
    app: Flask, mail: MailServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subscribe(app)
    load(app, package_with_users(3), tmp_path)
    down = MailServer(port=1)
    deliver(app, down)
    assert notices(app) == ["import.committed"]
    assert [record.reason for record in _failures(caplog)] == [
        "the mail server 127.0.0.1:1 refuses the connection: check smtp_host and smtp_port, and that the server runs"
    ]
    deliver(app, mail)
    assert (len(mail.messages), notices(app)) == (1, [])


def _failures(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [_Members(record) for record in caplog.records if getattr(record, "event", "") == "mail.failed"]


class _Members:
    def __init__(self, record: logging.LogRecord) -> None:
        self.reason = record.members["reason"]  # type: ignore[attr-defined]  # log_event sets it


def test_notice_is_dropped_after_half_a_day(
    app: Flask, mail: MailServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subscribe(app)
    load(app, package_with_users(3), tmp_path)
    deliver(app, MailServer(port=1), now=lambda: datetime.now(UTC) + timedelta(hours=13))
    assert notices(app) == []
    assert [record for record in caplog.records if getattr(record, "event", "") == "mail.dropped"]
    deliver(app, mail)
    assert not mail.messages


def test_without_a_mail_server_notices_are_deleted(app: Flask, tmp_path: Path) -> None:
    subscribe(app)
    load(app, package_with_users(3), tmp_path)
    deliver(app, None)
    assert notices(app) == []


def test_rejected_recipient_does_not_keep_mail_from_others(
    app: Flask, mail: MailServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("gone", "later", "fine"):
        subscribe(app, name)
    mail.rejected = {"gone@example.org": "550 5.1.1 unknown", "later@example.org": "451 4.7.1 try again"}
    load(app, package_with_users(3), tmp_path)
    with worker_for(app, mail) as worker:
        worker.run_pending()
        assert [to for to, _ in mail.received()] == ["fine@example.org"]
        mail.rejected.clear()
        worker.run_pending()
    assert [to for to, _ in mail.received()] == ["fine@example.org", "later@example.org"]
    assert notices(app) == []
    assert "example.org" not in caplog.text


@pytest.mark.on_backend("sqlite")
def test_killed_worker_repeats_nothing_while_an_import_holds_the_lock(
    app: Flask, mail: MailServer, tmp_path: Path
) -> None:
    subscribe(app)
    load(app, package_with_users(3), tmp_path)
    (tmp_path / "data").mkdir(exist_ok=True)
    lock_file = tmp_path / "data" / "mail.lock"
    with services_of(app).store.write("default"):
        killed = LeaderLock(lock_file)
        with worker_for(app, mail, leader_lock=killed) as worker, pytest.raises(StorageBusyError):
            worker.run_pending()
    assert len(mail.messages) == 1
    assert notices(app) == ["import.committed"]
    deliver(app, mail, leader_lock=LeaderLock(lock_file, retry_interval=0))
    assert (len(mail.messages), notices(app)) == (1, [])
    assert not list((tmp_path / "data").glob("*.results"))


@pytest.mark.on_backend("sqlite")
def test_one_worker_sends_at_a_time(app: Flask, mail: MailServer, tmp_path: Path) -> None:
    subscribe(app)
    load(app, package_with_users(3), tmp_path)
    (tmp_path / "data").mkdir(exist_ok=True)
    first = LeaderLock(tmp_path / "data" / "mail.lock")
    assert first.try_acquire()
    deliver(app, mail, leader_lock=LeaderLock(tmp_path / "data" / "mail.lock"))
    assert (mail.messages, notices(app)) == ([], ["import.committed"])
    first.release()


@pytest.mark.every_backend
def test_digest_lists_the_imports_of_the_day_once(app: Flask, mail: MailServer, tmp_path: Path) -> None:
    subscribe(app, events=[], digest=True)
    committed = load(app, package_with_users(200), tmp_path)
    rejected = load(app, PackageBuilder().set("users", "pupil-1", role="pilot"), tmp_path)
    now = datetime.now(UTC) + timedelta(minutes=1)
    deliver(app, mail, now=lambda: now.replace(hour=5), digest_hour=6)
    assert not mail.messages, "it is too early"
    for _ in range(3):
        deliver(app, mail, now=lambda: now)
    [message] = mail.messages
    text = message.get_content()
    assert message["Subject"] == "[default] imports of the day"
    assert (committed.run in text, rejected.run in text, "1 errors" in text) == (True, True, True)
    deliver(app, mail, now=lambda: now + timedelta(days=1))
    assert "No package was imported." in mail.messages[1].get_content()


def test_queue_of_notices_is_limited(app: Flask, mail: MailServer) -> None:
    subscribe(app)
    store = services_of(app).store
    with store.write("default") as transaction:
        for _ in range(MAX_NOTICES + 5):
            enqueue_notice(transaction, "default", IMPORT_HELD, "run-1", {})
    assert len(notices(app)) == MAX_NOTICES


def test_attempts_of_a_message_have_the_same_id(app: Flask, mail: MailServer, tmp_path: Path) -> None:
    subscribe(app)
    load(app, package_with_users(3), tmp_path)
    with services_of(app).store.read("default") as snapshot:
        [notice] = list_notices(snapshot)
    deliver(app, mail)
    with services_of(app).store.write("default") as transaction:
        transaction.put("notices", [notice.to_record()])
    deliver(app, mail)
    assert len({message["Message-ID"] for message in mail.messages}) == 1
    assert len(mail.messages) == 2


def test_background_thread_sends_and_stops(app: Flask, mail: MailServer, tmp_path: Path) -> None:
    subscribe(app)
    with worker_for(app, mail) as worker:
        worker.start()
        load(app, package_with_users(3), tmp_path)
        deadline = time.monotonic() + 60
        while notices(app) and time.monotonic() < deadline:
            time.sleep(0.05)
        started = time.monotonic()
        worker.close()
    assert time.monotonic() - started < 8
    assert len(mail.messages) == 1
    with services_of(app).store.read(CONTROL) as control:
        assert not list(control.keys("notices"))
