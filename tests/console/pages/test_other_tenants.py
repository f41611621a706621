"""Ids of another tenant: each route with an id treats them as unknown, generated from the table of routes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from backends import CONTROL
from chalk_flask import create_app
from chalk_flask.auth.jwt.issuers import IssuerStore
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.console.routes import ROUTES, ConsoleRoute
from chalk_flask.permissions.scopes import DEFAULT
from chalk_flask.sources import SourceRequest, SourceStore
from chalk_flask.tenants.store import TenantStore
from chalk_flask.webhooks import SsrfGuard, WebhookRequest, WebhookStore
from tests.conftest import services_of
from tests.support.console.client import PASSWORD, Console, find_form, visible_text
from tests.support.console.imports import job_id_of, package_bytes, run_upload, upload
from tests.support.packages import package_with_users
from tests.webhooks.conftest import queue_deliveries

MARK = "Only of default"
"""Label of all objects of the tenant `default`."""

NAMES_OF_THE_SERVICE = {"secret", "name", "operation", "code", "check_id"}
"""Parameters of paths whose values are no ids of a tenant."""

CHOICES = {"collection": "users", "nested": "classes"}


def params_of(route: ConsoleRoute) -> list[str]:
    return re.findall(r"<(?:\w+:)?(\w+)>", route.path)


ROUTES_WITH_IDS = [route for route in ROUTES if set(params_of(route)) - NAMES_OF_THE_SERVICE - set(CHOICES)]


def path_of(route: ConsoleRoute, values: Mapping[str, str]) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: (CHOICES | dict(values))[found[1]], route.path)


@dataclass(frozen=True)
class Tenants:
    """Application with objects in the tenant `default`, their ids, and signed-in owners of two tenants."""

    app: Flask
    ids: Mapping[str, list[str]]
    owner: Console
    attackers: list[Console]

    def values(self, route: ConsoleRoute) -> list[dict[str, str]]:
        """Return the ids of `default` for the parameters of a route: one mapping for each object."""
        names = [name for name in params_of(route) if name in self.ids]
        return [dict(zip(names, chosen, strict=True)) for chosen in zip(*(self.ids[n] for n in names), strict=True)]

    def state(self) -> object:
        """Return everything that is stored, but the audit log, sessions and submissions."""
        store = services_of(self.app).store
        stored = {}
        for tenant in ("default", "west", CONTROL):
            with store.read(tenant) as snapshot:
                for name in set(store.collections) - {"audit", "sessions", "submissions"}:
                    stored[tenant, name] = {record.key: record.body for record in snapshot.scan(name)}
        return stored


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    folder = tmp_path_factory.mktemp("tenants")
    app = create_app(storage="memory:", data=str(folder / "data"), webhook_allowed_hosts="127.0.0.1")
    TenantStore(services_of(app).store).create("west")
    owner, of_west, operator = Console(app), Console(app), Console(app)
    owner.sign_in("owner", "default", "default-owner")
    of_west.sign_in("owner", "west", "west-owner")
    operator.sign_in("owner", None, "operator")
    page = operator.get("/tenants")
    operator.post("/tenants/select", {**find_form(page.text, "/tenants/select").values, "name": "west"})
    yield Tenants(app, create_objects(owner, folder), owner, [of_west, operator])
    services_of(app).access_log.close()
    services_of(app).store.close()


def create_objects(owner: Console, folder: Path) -> dict[str, list[str]]:
    """Create objects of each kind in `default`, and return their ids by the name of the parameter."""
    services = owner.services
    run_upload(owner, package_bytes(package_with_users(200), folder))
    smaller = package_bytes(package_with_users(150), folder)
    checked = run_upload(owner, smaller, "checked.zip", mode="dry_run")
    held = run_upload(owner, smaller, "held.zip")
    queued = upload(owner, smaller, "queued.zip")
    _, token = services.tokens.create(MARK, DEFAULT)
    _, client = services.clients.create(MARK, DEFAULT)
    jwks_url = "https://login.example.org/jwks"
    issuer = IssuerStore(services.store).add(
        "https://login.example.org", "chalk", DEFAULT, jwks_url=jwks_url, label=MARK
    )
    webhooks = WebhookStore(services.store, SecretCipher(services.settings.data), SsrfGuard(["127.0.0.1"]))
    request = WebhookRequest(url="https://tool.example.org/hooks", root="", label=MARK)
    webhook = webhooks.create("default", request).subscription
    [delivery] = queue_deliveries(services.store, webhook, 1, "failed")
    sources = SourceStore(services.store, SecretCipher(services.settings.data))
    source = sources.add("default", SourceRequest(name="sis", url="https://sis.example.org", auth="bearer", secret="x"))
    administrator = services.administrators.create("second-owner", "owner", "default", PASSWORD)
    with services.store.read("default") as snapshot:
        user = next(iter(snapshot.keys("users")))
    return {
        "import_id": [job_id_of(page) for page in (checked, held, queued)],
        "token_id": [token.id],
        "client_id": [client.id],
        "issuer_id": [issuer.id],
        "record_id": [user],
        "webhook_id": [webhook.id],
        "event_id": [delivery.event_id],
        "administrator_id": [administrator.id],
        "source_name": [source.name],
    }


def send(console: Console, route: ConsoleRoute, values: Mapping[str, str], tenant: str) -> TestResponse:
    """Return the response to a request of a route, or the page to which a form leads."""
    page = console.get("/account")
    token = find_form(page.text, "/logout").values["csrf_token"]
    data = {"csrf_token": token, "tenant": tenant, "since": "2026-01-01T00:00", "role": "viewer", "overlap": "0"}
    is_post, headers = route.methods == ("POST",), {"Accept": "text/html"}
    path = path_of(route, values)
    response = console.client.open(path, method=route.methods[0], data=data if is_post else None, headers=headers)
    if is_post and response.status_code == 303:  # a search, whose page is on another path
        response = console.client.get(response.headers["Location"], headers=headers)
    return response


def test_every_parameter_of_a_path_is_known(tenants: Tenants) -> None:
    names = {name for route in ROUTES for name in params_of(route)}
    assert names == set(tenants.ids) | set(CHOICES) | NAMES_OF_THE_SERVICE


@pytest.mark.parametrize("route", ROUTES_WITH_IDS, ids=lambda route: f"{route.methods[0]} {route.path}")
def test_id_of_another_tenant_is_unknown(route: ConsoleRoute, tenants: Tenants) -> None:
    before = tenants.state()
    for values in tenants.values(route):
        unknown = send(tenants.attackers[0], route, dict.fromkeys(values, "unknown"), "west")
        for attacker in tenants.attackers:
            response = send(attacker, route, values, "west")
            assert response.status_code == unknown.status_code == 404, (route.path, visible_text(response.text)[:300])
            assert MARK not in response.text
    assert tenants.state() == before


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES_WITH_IDS if route.methods == ("GET",)],
    ids=lambda route: route.path,
)
def test_id_of_the_own_tenant_is_found(route: ConsoleRoute, tenants: Tenants) -> None:
    statuses = {send(tenants.owner, route, values, "default").status_code for values in tenants.values(route)}
    assert statuses & {200, 303}
