"""The server is killed again and again while a roster changes: who follows, and who is told, misses nothing.

It takes some seconds as it stands; `FOLLOWED_CHANGES=10000 FOLLOWED_KILLS=100` makes it minutes.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
import socket
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from standardwebhooks import WebhookVerificationError

from backends import open_store
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in
from tests.support.deliveries import verify_request
from tests.support.followers import DELTA_ROW_COUNT, Client, Follower, RosterUnderTest
from tests.support.receiver import OK_RESPONSE, ConnectionHandler, Receiver, read_request, run_receiver

CHANGE_COUNT = int(os.environ.get("FOLLOWED_CHANGES", "120"))
KILL_COUNT = int(os.environ.get("FOLLOWED_KILLS", "2"))

LIFETIME_SECONDS = (0.3, 1.3)
"""For how many seconds a server lives at least and at most, once it listens."""
DELIVERY_TIMEOUT_SECONDS = 120.0


@dataclass
class Totals:
    """What was done."""

    changes: int = 0
    kills: int = 0


def run_until_killed(trial: RosterUnderTest, follower: Follower, tally: Totals, life: float) -> None:
    """One life of the server: a client writes, another follows and an import runs until it is killed."""
    with ExitStack() as stack:
        process, port = stack.enter_context(trial.server())
        killing = threading.Timer(life, process.kill)
        killing.start()
        stack.callback(killing.cancel)
        writer, reader = (stack.enter_context(closing(Client(port, trial.token))) for _ in range(2))
        importing = trial.start_delta_import()
        most = CHANGE_COUNT // KILL_COUNT
        try:
            for number in range(10**9):
                if number < most:
                    trial.write_category(writer)
                    tally.changes += 1
                if number % 5 == 0:
                    follower.follow(reader)
        except (OSError, http.client.HTTPException):
            process.wait(10)
        assert process.returncode is not None
        tally.kills += process.returncode < 0
        assert importing.wait(60) == 0
        tally.changes += DELTA_ROW_COUNT


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_feed_and_webhooks_miss_no_change_when_server_is_killed(kind: str, tmp_path: Path) -> None:
    chance, tally = random.Random(), Totals()
    storage, secrets, refused = url_in(tmp_path, kind), dict[str, str](), list[str]()
    with run_receiver(verifying_handler(secrets, refused)) as receiver:
        trial = RosterUnderTest(tmp_path, storage, receiver, chance)
        secrets.update({hook["id"]: hook["secret"] for hook in trial.webhooks.values()})
        with trial.server() as (_, port), closing(Client(port, trial.token)) as client:
            latest = client.get("/changes?since=latest")["sequence"]
            follower = Follower(client.read_all(), latest)
        while tally.kills < KILL_COUNT or tally.changes < CHANGE_COUNT:
            run_until_killed(trial, follower, tally, chance.uniform(*LIFETIME_SECONDS))
        with trial.server() as (process, port), closing(Client(port, trial.token)) as client:
            while follower.follow(client):
                pass
            now = client.read_all()
            wait_until_delivered(storage)
            process.terminate()
            assert process.wait(30) == 0
    assert (follower.records, refused) == (now, [])
    told = stored_bodies(storage)
    check_deliveries(receiver, told)
    check_order_and_states(trial, receiver, follower, now)
    logging.getLogger(__name__).info(
        "%s: %d changes, %d kills, %d events in %d requests",
        *(kind, tally.changes, tally.kills, len(told), len(receiver.requests)),
    )


def verifying_handler(secrets: dict[str, str], rejected: list[str]) -> ConnectionHandler:
    """Take what is signed with the secret of its webhook, and note what is not."""

    def behave(receiver: Receiver, stream: socket.socket) -> None:
        own = Receiver(receiver.port)  # there is a connection for each webhook
        while read_request(own, stream):
            request = own.requests.pop()
            receiver.requests.append(request)
            try:
                verify_request(request, secrets[request[1]["x-chalk-webhook-id"]])
            except WebhookVerificationError as error:
                rejected.append(str(error))
            stream.sendall(OK_RESPONSE)

    return behave


def wait_until_delivered(storage: str) -> None:
    deadline = time.monotonic() + DELIVERY_TIMEOUT_SECONDS
    with open_store(storage, COLLECTIONS) as store:
        while True:
            with store.read("default") as snapshot:
                waiting = [
                    key for key in snapshot.keys("deliveries") if b'"state":"delivered"' not in _of(snapshot, key)
                ]
            if not waiting:
                return
            assert time.monotonic() < deadline, f"{len(waiting)} are not delivered"
            time.sleep(0.3)


def _of(snapshot: Any, key: str) -> bytes:
    body: bytes = snapshot.bodies("deliveries", [key])[key]
    return body


def stored_bodies(storage: str) -> dict[str, bytes]:
    """What the outbox holds, by event."""
    with open_store(storage, COLLECTIONS) as store, store.read("default") as snapshot:
        keys = [key for key in snapshot.keys(BODIES) if key != ":state"]
        return {orjson.loads(body)["event_id"]: body for body in snapshot.get_many(BODIES, keys).values()}


def check_deliveries(receiver: Receiver, told: dict[str, bytes]) -> None:
    """Every event came at least once, and each time with the same bytes, and nothing else came."""
    came: dict[str, set[bytes]] = {}
    for _, headers, body in receiver.requests:
        came.setdefault(headers["webhook-id"], set()).add(body)
    assert came == {event: {body} for event, body in told.items()}


def check_order_and_states(trial: RosterUnderTest, receiver: Receiver, follower: Follower, now: dict[Any, Any]) -> None:
    """Events came in the order of the sequence; the last of each record is its last change and holds what it is now."""
    for mode, hook in trial.webhooks.items():
        ours = [each for each in receiver.requests if each[1]["x-chalk-webhook-id"] == hook["id"]]
        events = [json.loads(body) for _, _, body in ours]
        first = list({event["event_id"]: event for event in events}.values())
        changes = [change for event in first for change in changes_of(event)]
        numbers = [change["sequence"] for change in changes]
        assert numbers == sorted(set(numbers)), mode
        last = {(change["entity_type"], change["sourced_id"]): change for change in changes}
        assert len(last) == len(follower.last_numbers)
        for (entity, key), number in follower.last_numbers.items():
            change, record = last[entity, key], now[entity, key]
            if change["action"] == "deleted":  # nobody is told that a tombstone was stamped again
                assert record["status"] == "tobedeleted"
                assert change["sequence"] <= number
            else:
                assert (change["sequence"], change["entity"]) == (number, record)


def changes_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    data = event["data"]
    found: list[dict[str, Any]] = [data["single"]] if "single" in data else data["batch"]["changes"]
    return found
