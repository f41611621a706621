"""Failures of the storage: 503 with Retry-After, a log entry with the reason, and reads that go on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from backends import Backend
from chalk_flask import create_app
from chalk_flask.permissions.scopes import ALL
from tests.conftest import services_of, url_in
from tests.support.api_client import CHALK, IMS, Consumer, error_message
from tests.support.small_roster import fill
from tests.support.storage.failures import FULL_DEVICE, file_size_limit, public_folder, without_root

LINE_ITEM = {
    "title": "Essay of Brien",
    "assignDate": "2026-09-01T10:00:00.000Z",
    "dueDate": "2026-09-02T10:00:00.000Z",
    "class": {"sourcedId": "c-1"},
    "resultValueMin": 0,
    "resultValueMax": 9,
}


@pytest.fixture
def app(backend: str, tmp_path: Path) -> Iterator[Flask]:
    app = create_app(storage=url_in(tmp_path, backend), data=str(tmp_path / "data"))
    fill(services_of(app).store)
    yield app
    services_of(app).store.close()


@pytest.fixture
def tool(app: Flask) -> Consumer:
    return used_consumer(app)


def used_consumer(app: Flask) -> Consumer:
    """Return a consumer that has read once, because SQLite opens its shared memory at the first read."""
    consumer = Consumer(app)
    assert consumer.get("/users").status_code == 200
    return consumer


def write(tool: Consumer, method: str = "PUT") -> TestResponse:
    """Return the response to a write of a line item."""
    headers = {"Authorization": f"Bearer {tool.token}"}
    body = {"lineItem": LINE_ITEM} if method == "PUT" else None
    return tool.client.open(f"{CHALK}/lineItems/li-new", method=method, json=body, headers=headers)


def assert_unavailable(response: TestResponse, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """Assert that the response is 503 with Retry-After, and that one log entry has the reason and no data."""
    message = error_message(response, 503, "server_busy", "server_busy")
    assert "storage" in message
    assert int(response.headers["Retry-After"]) > 0
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert reason in record.getMessage()
    assert "Brien" not in caplog.text
    assert response.json is not None
    assert response.json["statusInfoSet"][0]["imsx_messageRefIdentifier"] in record.getMessage()


@pytest.mark.on_backend("sqlite", "json")
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_write_to_a_limited_disk_is_503(tool: Consumer, caplog: pytest.LogCaptureFixture, method: str) -> None:
    if method == "DELETE":
        assert write(tool).status_code == 201
    with file_size_limit(1000):
        assert_unavailable(write(tool, method), caplog, "file size limit")
        assert tool.get("/users").status_code == 200
    assert write(tool, method).status_code == (201 if method == "PUT" else 204)


def test_write_to_a_full_disk_is_503(caplog: pytest.LogCaptureFixture) -> None:
    with public_folder() as folder:
        app = create_app(storage=url_in(folder, "json"))
        fill(services_of(app).store)
        tool = Consumer(app)
        for path in folder.rglob("*"):
            path.chmod(0o777)
        (folder / "chalk" / "default" / "current.json.next").symlink_to(FULL_DEVICE)
        with without_root():  # root does not write through links
            assert_unavailable(write(tool), caplog, "the disk is full")
            assert tool.get("/users").status_code == 200
        services_of(app).store.close()


@pytest.mark.parametrize("kind", ["sqlite", "json"])
def test_write_to_a_read_only_store_is_503(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with public_folder() as folder:
        app = create_app(storage=url_in(folder, kind))
        fill(services_of(app).store)
        tool = used_consumer(app)
        for path in [*folder.rglob("*"), folder]:
            is_lock = path.name in ("chalk.db.lock", ".lock")
            path.chmod(0o555 if path.is_dir() else 0o666 if is_lock else 0o444)
        with without_root():
            reason = "read-only" if kind == "sqlite" else "Permission denied"
            assert_unavailable(write(tool), caplog, reason)
            assert tool.get("/users").status_code == 200
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o777)
        services_of(app).store.close()


@pytest.mark.on_backend("sqlite", "json")
def test_write_with_an_unusable_lock_file_is_503(
    backend: str, tool: Consumer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    lock = tmp_path / {"sqlite": "chalk.db.lock", "json": "chalk/.lock"}[backend]
    lock.unlink()
    lock.mkdir()
    assert_unavailable(write(tool), caplog, str(lock))
    assert tool.get("/users").status_code == 200


@pytest.mark.on_backend("sqlite", "json")
def test_vanished_store_is_503_and_is_not_created_again(
    backend: str, tool: Consumer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    assert tool.get("/users").status_code == 200
    store = tmp_path / {"sqlite": "chalk.db", "json": "chalk"}[backend]
    store.rename(tmp_path / "moved")
    for method, path in (("GET", "/users"), ("DELETE", f"{CHALK}/lineItems/x"), ("GET", f"{CHALK}/changes?since=0")):
        assert_unavailable(tool.get(path, method=method), caplog, "is missing")
        caplog.clear()
    assert not store.exists()
    (tmp_path / "moved").rename(store)
    assert tool.get("/users").status_code == 200


@pytest.mark.on_backend("sqlite", "json")
def test_unknown_token_at_a_vanished_store_is_503(
    backend: str, app: Flask, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    store = tmp_path / {"sqlite": "chalk.db", "json": "chalk"}[backend]
    shutil.rmtree(store) if store.is_dir() else store.unlink()
    assert_unavailable(Consumer(app, "chk_token_of_another_store").get("/users"), caplog, "is missing")


@pytest.mark.on_backend("sqlite")
def test_replaced_database_is_503(tool: Consumer, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    assert tool.get("/users").status_code == 200
    shutil.copy(tmp_path / "chalk.db", tmp_path / "copy.db")
    (tmp_path / "copy.db").replace(tmp_path / "chalk.db")
    assert_unavailable(tool.get("/users"), caplog, "was replaced")


@pytest.fixture
def client_secret(app: Flask) -> tuple[str, str]:
    """Id and secret of an OAuth client."""
    secret, client = services_of(app).clients.create("tool", ALL)
    assert secret is not None
    return client.id, secret


@pytest.mark.on_backend("sqlite", "json")
def test_token_request_at_a_vanished_store_is_503(
    backend: str, app: Flask, client_secret: tuple[str, str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    store: Backend = services_of(app).store
    assert store.tenants()
    (tmp_path / {"sqlite": "chalk.db", "json": "chalk"}[backend]).rename(tmp_path / "moved")
    response = app.test_client().post("/oauth/token", data={"grant_type": "client_credentials"}, auth=client_secret)
    assert (response.status_code, response.json and response.json["error"]) == (503, "temporarily_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert "is missing" in caplog.text
    assert client_secret[1] not in caplog.text


def test_token_request_without_a_usable_key_file_is_503(
    app: Flask, client_secret: tuple[str, str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file in place of the folder")
    response = app.test_client().post("/oauth/token", data={"grant_type": "client_credentials"}, auth=client_secret)
    assert (response.status_code, response.json and response.json["error"]) == (503, "temporarily_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert "the key file" in caplog.text


@pytest.mark.on_backend("sqlite")
def test_access_token_with_an_unusable_key_file_is_503(
    app: Flask, client_secret: tuple[str, str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    response = app.test_client().post("/oauth/token", data={"grant_type": "client_credentials"}, auth=client_secret)
    assert response.json is not None
    [key_file] = (tmp_path / "data").glob("*.key")
    key_file.write_text("no key")
    failed = app.test_client().get(f"{IMS}/users", headers={"Authorization": f"Bearer {response.json['access_token']}"})
    assert_unavailable(failed, caplog, "contains no key")
