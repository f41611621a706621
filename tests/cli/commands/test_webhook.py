"""Webhooks from the command line."""

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
from tests.cli.conftest import Ran, Run
from tests.support.receiver import respond, run_receiver

URL = "https://tool.example.org/hooks"
LOCAL = ("--webhook-allowed-hosts", "127.0.0.1")


def create(run: Run, *words: str, url: str = URL) -> dict[str, Any]:
    ran = run("webhook", "create", "--url", url, "--json", *words)
    assert ran.code == 0, ran.err
    return ran.json


def ok(ran: Ran) -> Ran:
    assert ran.code == 0, ran.err
    return ran


def queue(folder: Path, webhook: str) -> str:
    """A delivery that waits; the id of its event."""
    message = build_message("user.created", webhook, "default", "2026-09-01T08:00:00.000Z", None, 1, {})
    with open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store, store.write("default") as transaction:
        list(enqueue(transaction, [(webhook, message)], "2126-09-01T08:00:00.000Z", 1.0))
    return message.event_id


def test_a_created_webhook_is_one_object_with_its_secret(run: Run) -> None:
    made = create(run, "--label", "Tool", "--event", "users.*", "--entity", "users", "--exclude", "email", "--full")
    assert made["secret"].startswith("whsec_")
    assert "secrets" not in made
    assert (made["url"], made["label"], made["tenant"], made["state"]) == (URL, "Tool", "default", "active")
    assert made["events"] == ["user.created", "user.deleted", "user.updated"]
    assert (made["entities"], made["excluded"], made["full"], made["mode"]) == (["user"], ["email"], True, "batched")
    assert made["root"] == "/api/oneroster/v1p1"


def test_hrefs_begin_with_the_public_address(run: Run) -> None:
    made = create(run, "--public-url", "https://roster.example.org", "--mode", "per_entity", "--initial")
    assert made["root"] == "https://roster.example.org/api/oneroster/v1p1"
    assert (made["mode"], made["initial"]) == ("per_entity", True)


def test_a_person_sees_the_secret_once_and_never_again(run: Run) -> None:
    said = ok(run("webhook", "create", "--url", URL, "--label", "Tool")).out
    secret = said.split()[1]
    assert secret.startswith("whsec_")
    assert "is shown only this once" in said
    [webhook] = run("webhook", "list", "--json").json["webhooks"]
    later = [run("webhook", *words).out for words in (("list",), ("show", webhook["id"]), ("list", "--json"))]
    assert all("whsec" not in each and "sealed" not in each for each in later)
    assert webhook["id"] in later[0]
    assert "Tool" in later[0]
    assert "No attempts yet" in later[1]


def test_an_org_that_is_not_there_is_remarked_upon(run: Run) -> None:
    ran = ok(run("webhook", "create", "--url", URL, "--org", "o-77", "--json"))
    assert "has no org 'o-77'" in ran.err
    assert ran.json["orgs"] == ["o-77"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("create", "--url", "http://10.0.0.1/"), 1, "not public"),
        (("create", "--url", "https://localhost/"), 1, "webhook_allowed_hosts"),
        (("create", "--url", URL, "--event", "usr.created"), 1, "did you mean user.created"),
        (("create", "--url", URL, "--mode", "both"), 2, "batched"),
        (("create", "--url", URL, "--tenant", "north"), 1, "no tenant 'north'"),
        (("create", "--url", URL, "--storage", "memory:"), 1, "loses its data"),
        (("create", "--url", URL, "--webhook-allowed-hosts", "a b"), 1, "webhook_allowed_hosts"),
        (("create",), 2, "--url"),
        (("list", "--tenant", "north"), 1, "no tenant 'north'"),
        (("show", "wh-1"), 1, "the store does not exist yet"),
        (("pause", "wh-1"), 1, "the store does not exist yet"),
        (("delete", "wh-1"), 1, "the store does not exist yet"),
        (("rotate", "wh-1", "--overlap", "soon"), 2, "not a duration"),
        (("replay", "wh-1"), 2, "--since or --id"),
        (("replay", "wh-1", "--since", "1d", "--id", "evt-1"), 2, "--since or --id"),
        (("replay", "wh-1", "--since", "yesterday"), 2, "not a date"),
    ],
)
def test_what_will_not_do_is_refused(run: Run, words: tuple[str, ...], code: int, says: str, tmp_path: Path) -> None:
    ran = run("webhook", *words, "--json")
    assert (ran.code, says in ran.err) == (code, True), ran.err
    assert set(json.loads(ran.out)) == {"error", "message"}
    if words[0] != "create":
        assert not (tmp_path / "chalk.db").exists(), "no store is made for that"


def test_a_webhook_that_is_not_there_is_named(run: Run) -> None:
    create(run)
    for words in (("show",), ("pause",), ("resume",), ("rotate",), ("test",), ("replay", "--since", "1h"), ("delete",)):
        ran = run("webhook", words[0], "wh-none", *words[1:])
        assert ran.code == 1
        assert "no webhook with the id 'wh-none'" in ran.err


def test_each_tenant_has_its_own(run: Run) -> None:
    ok(run("tenant", "create", "north"))
    made = create(run, "--tenant", "north")
    assert run("webhook", "list", "--json").json == {"webhooks": []}
    assert run("webhook", "show", made["id"]).code == 1
    assert run("webhook", "show", made["id"], "--tenant", "north", "--json").json["id"] == made["id"]


def test_pausing_resuming_replaying_and_deleting_say_what_they_did(run: Run, tmp_path: Path) -> None:
    webhook = create(run)["id"]
    event = queue(tmp_path, webhook)
    assert run("webhook", "pause", webhook, "--json").json["state"] == "paused"
    resumed = run("webhook", "resume", webhook, "--json").json
    assert (resumed["state"], resumed["waiting"]) == ("active", 1)
    shown = run("webhook", "show", webhook, "--json").json
    assert shown["deliveries"] == {"pending": 1, "delivered": 0, "failed": 0}
    assert shown["next_due"] > "2026"
    assert run("webhook", "replay", webhook, "--id", event, "--json").json == {"id": webhook, "replayed": 0}
    assert run("webhook", "replay", webhook, "--since", "31d").code == 1
    assert "deliveries: 1" in ok(run("webhook", "delete", webhook)).out
    assert run("webhook", "list", "--json").json == {"webhooks": []}


def test_a_rotated_secret_is_shown_with_the_end_of_the_former(run: Run) -> None:
    made = create(run)
    rotated = run("webhook", "rotate", made["id"], "--json").json
    assert rotated["secret"] not in ("", made["secret"])
    assert rotated["former_signs_until"] > made["created"]
    ended = run("webhook", "rotate", made["id"], "--overlap", "0s")
    assert "The former secret is no longer used." in ended.out
    assert "former_signs_until" not in run("webhook", "rotate", made["id"], "--overlap", "0s", "--json").json


def test_a_test_says_what_came_of_it(run: Run) -> None:
    with run_receiver(respond(b"HTTP/1.1 202 Yes\r\nContent-Length: 8\r\n\r\nwell\x1b[2J")) as receiver:
        made = create(run, *LOCAL, url=receiver.url)
        ran = ok(run("webhook", "test", made["id"], *LOCAL))
    assert "Delivered: 202" in ran.out
    assert "well\\x1b[2J" in ran.out, "a terminal is not for receivers to steer"
    [(_, headers, body)] = receiver.requests
    Webhook(made["secret"]).verify(body, headers)
    shown = run("webhook", "show", made["id"]).out
    assert "webhook.test" in shown
    assert "\x1b" not in shown


def test_a_test_that_fails_ends_with_1(run: Run) -> None:
    with run_receiver(respond(b"HTTP/1.1 301 No\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")) as receiver:
        made = create(run, *LOCAL, url=receiver.url)
        ran = run("webhook", "test", made["id"], "--json", *LOCAL)
    assert (ran.code, ran.json["state"], ran.json["attempts"][0]["status"]) == (1, "failed", 301)
    refused = run("webhook", "test", made["id"], "--json")
    assert refused.code == 1
    assert "rejected" in refused.json["attempts"][0]["error"], "the operator no longer allows it"
