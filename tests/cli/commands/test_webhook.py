"""Commands `webhook`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from backends import open_store
from chalk_flask.outbox.delivery import enqueue
from chalk_flask.outbox.event import build_message
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import CommandResult, RunCommand
from tests.support.receiver import respond, run_receiver

pytestmark = pytest.mark.usefixtures("empty_store")

URL = "https://tool.example.org/hooks"
LOCAL = ("--webhook-allowed-hosts", "127.0.0.1")


def create(run: RunCommand, *args: str, url: str = URL) -> dict[str, Any]:
    result = run("webhook", "create", "--url", url, "--json", *args)
    assert result.code == 0, result.err
    return result.json


def check_success(result: CommandResult) -> CommandResult:
    assert result.code == 0, result.err
    return result


def enqueue_event(folder: Path, webhook: str) -> str:
    """Add a pending delivery to the outbox. Return the id of its event."""
    message = build_message("user.created", webhook, "default", "2026-09-01T08:00:00.000Z", None, 1, {})
    with open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store, store.write("default") as transaction:
        list(enqueue(transaction, [(webhook, message)], "2126-09-01T08:00:00.000Z", 1.0))
    return message.event_id


def test_create_prints_an_object_with_the_secret(run: RunCommand) -> None:
    created = create(run, "--label", "Tool", "--event", "users.*", "--entity", "users", "--exclude", "email", "--full")
    assert created["secret"].startswith("whsec_")
    assert "secrets" not in created
    assert (created["url"], created["label"], created["tenant"], created["state"]) == (URL, "Tool", "default", "active")
    assert created["events"] == ["user.created", "user.deleted", "user.updated"]
    assert (created["entities"], created["excluded"], created["full"], created["mode"]) == (
        ["user"],
        ["email"],
        True,
        "batched",
    )
    assert created["root"] == "/api/oneroster/v1p1"


def test_root_starts_with_the_public_url(run: RunCommand) -> None:
    created = create(run, "--public-url", "https://roster.example.org", "--mode", "per_entity", "--initial")
    assert created["root"] == "https://roster.example.org/api/oneroster/v1p1"
    assert (created["mode"], created["initial"]) == ("per_entity", True)


def test_secret_is_shown_only_by_create(run: RunCommand) -> None:
    text = check_success(run("webhook", "create", "--url", URL, "--label", "Tool")).out
    secret = text.split()[1]
    assert secret.startswith("whsec_")
    assert "is shown only this once" in text
    [webhook] = run("webhook", "list", "--json").json["webhooks"]
    outputs = [run("webhook", *args).out for args in (("list",), ("show", webhook["id"]), ("list", "--json"))]
    assert all("whsec" not in output and "sealed" not in output for output in outputs)
    assert webhook["id"] in outputs[0]
    assert "Tool" in outputs[0]
    assert "No attempts yet" in outputs[1]


@pytest.mark.parametrize("source", ["option", "environment", "file"])
def test_create_and_test_say_that_service_and_worker_need_the_allowed_hosts(
    source: str, run: RunCommand, tmp_path: Path
) -> None:
    (tmp_path / "chalk.toml").write_text('webhook_allowed_hosts = "127.0.0.1"')
    env = {"CHALK_WEBHOOK_ALLOWED_HOSTS": "127.0.0.1"} if source == "environment" else {}
    options = {"option": LOCAL, "environment": (), "file": ("--config", "chalk.toml")}[source]
    with run_receiver(respond(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as receiver:
        created = run("webhook", "create", "--url", receiver.url, "--json", *options, env=env)
        tested = check_success(run("webhook", "test", created.json["id"], *options, env=env))
    for result in (created, tested):
        assert "`chalk-flask serve` and `chalk-flask worker` do not know it" in result.err
        assert "CHALK_WEBHOOK_ALLOWED_HOSTS=127.0.0.1 too" in result.err


def test_create_of_a_public_receiver_needs_no_allowed_hosts(run: RunCommand) -> None:
    assert check_success(run("webhook", "create", "--url", URL, *LOCAL)).err == ""


def test_create_warns_about_an_unknown_org(run: RunCommand) -> None:
    result = check_success(run("webhook", "create", "--url", URL, "--org", "o-77", "--json"))
    assert "has no org 'o-77'" in result.err
    assert result.json["orgs"] == ["o-77"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("create", "--url", "http://10.0.0.1/"), 1, "not public"),
        (("create", "--url", "https://localhost/"), 1, "CHALK_WEBHOOK_ALLOWED_HOSTS=localhost:443"),
        (("create", "--url", "http://127.0.0.1:5000/hooks"), 1, "CHALK_WEBHOOK_ALLOWED_HOSTS=127.0.0.1:5000"),
        (("create", "--url", URL, "--event", "usr.created"), 1, "did you mean user.created"),
        (("create", "--url", URL, "--mode", "both"), 2, "batched"),
        (("create", "--url", URL, "--tenant", "north"), 1, "no tenant 'north'"),
        (("create", "--url", URL, "--storage", "memory:"), 2, "loses its data"),
        (("create", "--url", URL, "--webhook-allowed-hosts", "a b"), 2, "webhook_allowed_hosts"),
        (("create",), 2, "--url"),
        (("list", "--tenant", "north"), 1, "no tenant 'north'"),
        (("rotate", "wh-1", "--overlap", "soon"), 2, "not a duration"),
        (("replay", "wh-1"), 2, "--since or --id"),
        (("replay", "wh-1", "--since", "1d", "--id", "evt-1"), 2, "--since or --id"),
        (("replay", "wh-1", "--since", "yesterday"), 2, "not a date"),
    ],
)
def test_invalid_command_is_rejected(
    run: RunCommand, args: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    result = run("webhook", *args, "--json")
    assert (result.code, message in result.err) == (code, True), result.err
    assert set(json.loads(result.out)) == {"error", "message"}
    assert not (tmp_path / "chalk-data").exists(), "a rejected command creates no folder"


def test_unknown_webhook_is_named(run: RunCommand) -> None:
    create(run)
    for args in (("show",), ("pause",), ("resume",), ("rotate",), ("test",), ("replay", "--since", "1h"), ("delete",)):
        result = run("webhook", args[0], "wh-none", *args[1:])
        assert result.code == 1
        assert "no webhook with the id 'wh-none'" in result.err


def test_webhooks_belong_to_a_tenant(run: RunCommand) -> None:
    check_success(run("tenant", "create", "north"))
    created = create(run, "--tenant", "north")
    assert run("webhook", "list", "--json").json["webhooks"] == []
    assert run("webhook", "show", created["id"]).code == 1
    assert run("webhook", "show", created["id"], "--tenant", "north", "--json").json["id"] == created["id"]


def test_pause_resume_replay_and_delete_report_the_result(run: RunCommand, tmp_path: Path) -> None:
    webhook = create(run)["id"]
    event = enqueue_event(tmp_path, webhook)
    assert run("webhook", "pause", webhook, "--json").json["state"] == "paused"
    resumed = run("webhook", "resume", webhook, "--json").json
    assert (resumed["state"], resumed["waiting"]) == ("active", 1)
    shown = run("webhook", "show", webhook, "--json").json
    assert shown["deliveries"] == {"pending": 1, "delivered": 0, "failed": 0}
    assert shown["next_due"] > "2026"
    assert run("webhook", "replay", webhook, "--id", event, "--json").json == {"id": webhook, "replayed": 0}
    assert f"`chalk-flask webhook resume {webhook}`" in run("webhook", "replay", webhook, "--id", event).out
    assert run("webhook", "replay", webhook, "--since", "31d").code == 1
    assert "deliveries: 1" in check_success(run("webhook", "delete", webhook)).out
    assert run("webhook", "list", "--json").json["webhooks"] == []


def test_rotate_prints_the_secret_and_the_end_of_the_former(run: RunCommand) -> None:
    created = create(run)
    rotated = run("webhook", "rotate", created["id"], "--json").json
    assert rotated["secret"] not in ("", created["secret"])
    assert rotated["former_signs_until"] > created["created"]
    ended = run("webhook", "rotate", created["id"], "--overlap", "0s")
    assert "The former secret is no longer used." in ended.out
    assert "former_signs_until" not in run("webhook", "rotate", created["id"], "--overlap", "0s", "--json").json


def test_test_prints_the_response_of_the_receiver(run: RunCommand) -> None:
    with run_receiver(respond(b"HTTP/1.1 202 Yes\r\nContent-Length: 8\r\n\r\nwell\x1b[2J")) as receiver:
        created = create(run, *LOCAL, url=receiver.url)
        result = check_success(run("webhook", "test", created["id"], *LOCAL))
    assert "Delivered: 202" in result.out
    assert "well\\x1b[2J" in result.out, "a receiver must not control the terminal"
    [(_, headers, body)] = receiver.requests
    Webhook(created["secret"]).verify(body, headers)
    shown = run("webhook", "show", created["id"]).out
    assert "webhook.test" in shown
    assert "\x1b" not in shown


def test_failed_test_exits_with_1(run: RunCommand) -> None:
    with run_receiver(respond(b"HTTP/1.1 301 No\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")) as receiver:
        created = create(run, *LOCAL, url=receiver.url)
        result = run("webhook", "test", created["id"], "--json", *LOCAL)
    assert (result.code, result.json["state"], result.json["attempts"][0]["status"]) == (1, "failed", 301)
    rejected = run("webhook", "test", created["id"], "--json")
    assert rejected.code == 1
    assert "rejected" in rejected.json["attempts"][0]["error"], "127.0.0.1 is no longer allowed"


def test_list_finds_the_worker_of_another_machine(run: RunCommand, postgresql_url: str) -> None:
    storage = ("--storage", f"{postgresql_url}&partitions=1")
    with open_store(storage[1], COLLECTIONS) as store:
        create(run, *storage)
        assert check_success(run("webhook", "list", "--json", *storage)).json["worker"] is False
        assert store.lease("webhooks").try_acquire()
        assert check_success(run("webhook", "list", "--json", *storage)).json["worker"] is True
