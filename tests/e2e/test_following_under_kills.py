"""Repeated kills of the server while a roster changes: the change feed and the webhooks miss no change.

The test takes some seconds. With `FOLLOWED_CHANGES=10000 FOLLOWED_KILLS=100` it takes minutes.
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
from tests.e2e.followers import DELTA_ROW_COUNT, Client, Follower, RosterUnderTest
from tests.support.deliveries import verify_request
from tests.support.receiver import OK_RESPONSE, ConnectionHandler, Receiver, read_request, run_receiver

CHANGE_COUNT = int(os.environ.get("FOLLOWED_CHANGES", "120"))
KILL_COUNT = int(os.environ.get("FOLLOWED_KILLS", "2"))

LIFETIME_SECONDS = (0.3, 1.3)
"""Minimum and maximum time from the start of a server until it is killed."""
DELIVERY_TIMEOUT_SECONDS = 120.0


@dataclass
class Totals:
    """Totals of all server processes."""

    changes: int = 0
    kills: int = 0


def run_until_killed(roster: RosterUnderTest, follower: Follower, totals: Totals, lifetime_seconds: float) -> None:
    """Run one server: a client writes, another follows the feed and an import runs until the server is killed."""
    with ExitStack() as stack:
        process, port = stack.enter_context(roster.server())
        killing = threading.Timer(lifetime_seconds, process.kill)
        killing.start()
        stack.callback(killing.cancel)
        writer, reader = (stack.enter_context(closing(Client(port, roster.token))) for _ in range(2))
        importing = roster.start_delta_import()
        max_changes = CHANGE_COUNT // KILL_COUNT
        try:
            for number in range(10**9):
                if number < max_changes:
                    roster.write_category(writer)
                    totals.changes += 1
                if number % 5 == 0:
                    follower.follow(reader)
        except (OSError, http.client.HTTPException):
            process.wait(60)
        assert process.returncode is not None
        totals.kills += process.returncode < 0
        assert importing.wait(300) == 0
        totals.changes += DELTA_ROW_COUNT


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_feed_and_webhooks_miss_no_change_when_server_is_killed(kind: str, tmp_path: Path) -> None:
    generator, totals = random.Random(), Totals()
    storage, secrets, rejected = url_in(tmp_path, kind), dict[str, str](), list[str]()
    with run_receiver(verifying_handler(secrets, rejected)) as receiver:
        roster = RosterUnderTest(tmp_path, storage, receiver, generator)
        secrets.update({hook["id"]: hook["secret"] for hook in roster.webhooks.values()})
        with roster.server() as (_, port), closing(Client(port, roster.token)) as client:
            latest = client.get("/changes?since=latest")["sequence"]
            follower = Follower(client.read_all(), latest)
        while totals.kills < KILL_COUNT or totals.changes < CHANGE_COUNT:
            run_until_killed(roster, follower, totals, generator.uniform(*LIFETIME_SECONDS))
        with roster.server() as (process, port), closing(Client(port, roster.token)) as client:
            while follower.follow(client):
                pass
            now = client.read_all()
            wait_until_delivered(storage)
            process.terminate()
            assert process.wait(90) == 0
    assert (follower.records, rejected) == (now, [])
    bodies = stored_bodies(storage)
    check_deliveries(receiver, bodies)
    check_order_and_states(roster, receiver, follower, now)
    logging.getLogger(__name__).info(
        "%s: %d changes, %d kills, %d events in %d requests",
        *(kind, totals.changes, totals.kills, len(bodies), len(receiver.requests)),
    )


def verifying_handler(secrets: dict[str, str], rejected: list[str]) -> ConnectionHandler:
    """Return a handler that accepts all requests, and adds the errors of invalid signatures to `rejected`."""

    def handle(receiver: Receiver, stream: socket.socket) -> None:
        connection = Receiver(receiver.port)  # each webhook has its own connection
        while read_request(connection, stream):
            request = connection.requests.pop()
            receiver.requests.append(request)
            try:
                verify_request(request, secrets[request[1]["x-chalk-webhook-id"]])
            except WebhookVerificationError as error:
                rejected.append(str(error))
            stream.sendall(OK_RESPONSE)

    return handle


def wait_until_delivered(storage: str) -> None:
    deadline = time.monotonic() + DELIVERY_TIMEOUT_SECONDS
    with open_store(storage, COLLECTIONS) as store:
        while True:
            with store.read("default") as snapshot:
                bodies = snapshot.get_many("deliveries", list(snapshot.keys("deliveries")))
            pending = [key for key, body in bodies.items() if b'"state":"delivered"' not in body]
            if not pending:
                return
            assert time.monotonic() < deadline, f"{len(pending)} events are not delivered"
            time.sleep(0.3)


def stored_bodies(storage: str) -> dict[str, bytes]:
    """Return the stored request bodies by event id."""
    with open_store(storage, COLLECTIONS) as store, store.read("default") as snapshot:
        keys = [key for key in snapshot.keys(BODIES) if key != ":state"]
        return {orjson.loads(body)["event_id"]: body for body in snapshot.get_many(BODIES, keys).values()}


def check_deliveries(receiver: Receiver, bodies: dict[str, bytes]) -> None:
    """Check that each event was received at least once, always with its stored bytes, and no other event."""
    received: dict[str, set[bytes]] = {}
    for _, headers, body in receiver.requests:
        received.setdefault(headers["webhook-id"], set()).add(body)
    assert received == {event: {body} for event, body in bodies.items()}


def check_order_and_states(
    roster: RosterUnderTest, receiver: Receiver, follower: Follower, now: dict[Any, Any]
) -> None:
    """Check that events came in the order of their numbers, and that the last one of each record is its state."""
    for mode, hook in roster.webhooks.items():
        requests = [each for each in receiver.requests if each[1]["x-chalk-webhook-id"] == hook["id"]]
        events = [json.loads(body) for _, _, body in requests]
        distinct = list({event["event_id"]: event for event in events}.values())
        changes = [change for event in distinct for change in changes_of(event)]
        numbers = [change["sequence"] for change in changes]
        assert numbers == sorted(set(numbers)), mode
        last = {(change["entity_type"], change["sourced_id"]): change for change in changes}
        assert len(last) == len(follower.last_numbers)
        for (entity, key), number in follower.last_numbers.items():
            change, record = last[entity, key], now[entity, key]
            if change["action"] == "deleted":  # a new timestamp of a tombstone is not sent
                assert record["status"] == "tobedeleted"
                assert change["sequence"] <= number
            else:
                assert (change["sequence"], change["entity"]) == (number, record)


def changes_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    data = event["data"]
    changes: list[dict[str, Any]] = [data["single"]] if "single" in data else data["batch"]["changes"]
    return changes
