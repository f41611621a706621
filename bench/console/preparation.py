"""Contents of a store that make the pages of the console long: credentials, webhooks, imports and audit events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyotp

from backends import Backend, batched
from bench.console.browser import Browser
from bench.console.packages import write_held_package, write_incorrect_package, write_outdated_package
from bench.servers import API_ROOT, BenchmarkError, Server
from chalk_flask import create_app
from chalk_flask.audit.events import record_event
from chalk_flask.auth.jwt.issuers import IssuerStore
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.delivery import Attempt, DeliveryState, enqueue
from chalk_flask.outbox.event import build_message
from chalk_flask.outbox.subscription import Subscription
from chalk_flask.permissions.scopes import DEFAULT
from chalk_flask.services import Services
from chalk_flask.sources import SourceRequest, SourceStore
from chalk_flask.sources.store import MAX_SOURCES
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import format_epoch_seconds
from chalk_flask.webhooks import SsrfGuard, WebhookRequest, WebhookStore

__all__ = ["ALLOWED", "Accounts", "data_folder", "fill_store", "find_records", "run_imports"]

ALLOWED: Final = ("--webhook-allowed-hosts", "127.0.0.1")
TENANT: Final = "default"
PASSWORD: Final = "correct horse battery staple"
CREDENTIALS: Final = 25
"""Tokens, clients, issuers, webhooks, administrators and tenants, each."""
DELIVERIES_PER_USER: Final = 0.5
EVENTS_PER_USER: Final = 0.2
SIGN_IN_NAMES: Final = 20
_BATCH: Final = 5_000


@dataclass(frozen=True)
class Accounts:
    """Names of an operator, of one who uses one-time codes, and of administrators who only try to sign in."""

    operator: str
    with_code: str
    others: tuple[str, ...]
    password: str = PASSWORD


def data_folder(storage: str) -> Path:
    """Return the data folder of the servers of a store, which is beside it by default."""
    store = Path(storage.removeprefix("sqlite:///"))
    return store.with_name(f"{store.stem}-data")


def fill_store(storage: str, users: int) -> tuple[Accounts, dict[str, str]]:
    """Store credentials, administrators, webhooks and audit events. Return the accounts, and ids by placeholder."""
    services: Services = create_app(storage=storage, data=str(data_folder(storage))).extensions["chalk"]
    with closing(services.store) as store:
        marker = f"{time.time_ns():x}"
        accounts, administrator = _create_administrators(services, marker)
        ids = {"administrator": administrator, "tenant": TENANT, **_create_credentials(services, marker)}
        ids |= _create_webhooks(store, data_folder(storage), int(users * DELIVERIES_PER_USER), marker)
        ids |= _create_sources(store, data_folder(storage), marker)
        _record_events(store, int(users * EVENTS_PER_USER))
        for number in range(CREDENTIALS):
            TenantStore(store).create(f"district-{marker}-{number}")
    return accounts, ids


def _create_administrators(services: Services, marker: str) -> tuple[Accounts, str]:
    administrators = services.administrators

    def create(name: str, tenant: str | None) -> str:
        return administrators.create(f"{name}-{marker}", "owner", tenant, PASSWORD).id

    create("operator", None)
    secret = pyotp.random_base32()
    administrators.enable_totp(create("with-code", None), secret, pyotp.TOTP(secret).now())
    ids = [create(f"north-{number}", TENANT) for number in range(SIGN_IN_NAMES)]
    others = tuple(f"north-{number}-{marker}" for number in range(SIGN_IN_NAMES))
    return Accounts(f"operator-{marker}", f"with-code-{marker}", others), ids[0]


def _create_credentials(services: Services, marker: str) -> dict[str, str]:
    issuers = IssuerStore(services.store)
    tokens = [services.tokens.create(f"Application {number}", DEFAULT)[1].id for number in range(CREDENTIALS)]
    clients = [services.clients.create(f"Application {number}", DEFAULT)[1].id for number in range(CREDENTIALS)]
    trusted = [
        issuers.add(
            f"https://exams-{marker}-{number}.example.org",
            "https://roster.example.org",
            DEFAULT,
            jwks_url="https://exams.example.org/jwks.json",
        ).id
        for number in range(CREDENTIALS)
    ]
    return {"token": tokens[0], "client": clients[0], "issuer": trusted[0]}


def _create_webhooks(store: Backend, data: Path, count: int, marker: str) -> dict[str, str]:
    """Create paused webhooks instead of those of a former run. The first one has `count` deliveries."""
    webhooks = WebhookStore(store, SecretCipher(data), SsrfGuard([ALLOWED[1]]))
    for former in webhooks.list(TENANT):
        webhooks.delete(TENANT, former.id)
    created = []
    for number in range(CREDENTIALS):
        url = f"http://127.0.0.1/{marker}/{number}"
        request = WebhookRequest(url=url, root=API_ROOT, label=f"Application {number}", mode="per_entity")
        created.append(webhooks.create(TENANT, request).subscription)
        webhooks.pause(TENANT, created[-1].id)
    event = _queue_deliveries(store, created[0], count)
    return {"webhook": created[0].id, "event": event}


def _create_sources(store: Backend, data: Path, marker: str) -> dict[str, str]:
    """Add as many sources as a tenant can have, without a schedule."""
    sources = SourceStore(store, SecretCipher(data))
    names = [f"sis-{marker}-{number}" for number in range(MAX_SOURCES)]
    for former in sources.list(TENANT):
        sources.remove(TENANT, former.name)
    for name in names:
        sources.add(TENANT, SourceRequest(name=name, url="https://sis.example.org", auth="bearer", secret=PASSWORD))
    return {"source": names[0]}


def _queue_deliveries(store: Backend, webhook: Subscription, count: int) -> str:
    """Store deliveries: half of them delivered, a fifth failed, the others pending. Return the id of the last event."""
    now = time.time()
    timestamp = format_epoch_seconds(now)
    attempt = Attempt(timestamp, 12, 500, None, "the receiver is being maintained\n" * 30)
    event = ""
    for numbers in batched(range(count), _BATCH):
        messages = [
            (webhook.id, build_message("user.updated", webhook.id, TENANT, timestamp, None, n, {})) for n in numbers
        ]
        with store.write(TENANT) as transaction:
            deliveries = enqueue(transaction, messages, timestamp, now)
            states: list[DeliveryState] = [_state(number, count) for number in numbers]
            finished = [
                delivery.with_attempt(attempt, state, None)
                for delivery, state in zip(deliveries, states, strict=True)
                if state != "pending"
            ]
            transaction.put(DELIVERIES, [delivery.to_record() for delivery in finished])
            event = deliveries[-1].event_id
    return event


def _state(number: int, count: int) -> DeliveryState:
    return "delivered" if number < count // 2 else "failed" if number < count * 7 // 10 else "pending"


def _record_events(store: Backend, count: int) -> None:
    for numbers in batched(range(count), _BATCH):
        with store.write(TENANT) as transaction:
            for number in numbers:
                label, scopes = f"Application {number}", sorted(DEFAULT)
                record_event(transaction, TENANT, "token.created", id=f"{number:016x}", label=label, scopes=scopes)


def run_imports(browser: Browser, users: int, folder: Path) -> dict[str, str]:
    """Upload packages that are held, rejected, and applied with warnings. Return their ids by placeholder."""
    packages = {
        "held": write_held_package(users, folder / "held.zip"),
        "rejected": write_incorrect_package(users, folder / "rejected.zip"),
        "applied": write_outdated_package(users, folder / "applied.zip"),
    }
    ids = {}
    for name in ("applied", "rejected", "held"):
        ids[name] = browser.wait_for(browser.upload(packages[name], "import"))
    job = browser.upload(packages["applied"], "dry_run")
    return ids | {"checked": browser.wait_for(job), "job": job.rpartition("/")[2]}


def find_records(server: Server) -> dict[str, str]:
    """Return the ids of records by placeholder: of the middle of each collection, and of those with many others."""
    ids = dict(_middle_records(server))
    classes = json.loads(server.get(f"/schools/{ids['schools']}/classes?limit=1")[1])["classes"]
    student = json.loads(server.get(f"/classes/{classes[0]['sourcedId']}/students?limit=1")[1])["users"][0]
    district = json.loads(server.get("/orgs?limit=1&filter=type%3D%27district%27")[1])["orgs"]
    return ids | {
        "class": classes[0]["sourcedId"],
        "student": student["sourcedId"],
        "district": district[0]["sourcedId"],
    }


def _middle_records(server: Server) -> Iterator[tuple[str, str]]:
    for collection in ("orgs", "schools", "academicSessions", "terms", "courses", "classes", "users", "enrollments"):
        total = int(server.get(f"/{collection}?limit=1")[0].headers["X-Total-Count"])
        yield collection, _only_id(server, f"/{collection}?limit=1&offset={total // 2}")
    for collection in ("lineItems", "results"):
        yield collection, _only_id(server, f"/{collection}?limit=1")


def _only_id(server: Server, path: str) -> str:
    found: Mapping[str, list[dict[str, str]]] = json.loads(server.get(path)[1])
    records = next(iter(found.values()))
    if not records:
        raise BenchmarkError(f"GET {path} returned no record")
    return records[0]["sourcedId"]
