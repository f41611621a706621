"""Client of the API within the process: same answers as over HTTP, as the administrator, and recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from flask import Flask
from werkzeug.datastructures import Headers
from werkzeug.exceptions import BadRequest, Forbidden, NotFound, ServiceUnavailable

from chalk_flask import create_app
from chalk_flask.admins.record import Administrator
from chalk_flask.api.auth.internal_requests import PRINCIPAL_KEY
from chalk_flask.console.api_client import ApiClient, ApiResult, administrator_principal, preview_principal
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import ALL, DEMOGRAPHICS, ROSTER
from tests.conftest import services_of
from tests.support.api_client import IMS, Consumer
from tests.support.console.client import PASSWORD, Console
from tests.support.small_roster import COLLECTIONS, SINGLES, fill


@pytest.fixture
def administrator(console_app: Flask) -> Administrator:
    """Owner of the tenant `default`."""
    return services_of(console_app).administrators.create("kim", "owner", "default", PASSWORD)


@pytest.fixture
def api(console_app: Flask, administrator: Administrator) -> Iterator[ApiClient]:
    """Client with demographics, within a request at https://roster.example.org/."""
    principal = administrator_principal(services_of(console_app).store, administrator, "default", demographics=True)
    with console_app.test_request_context("/", base_url="https://roster.example.org/"):
        yield ApiClient(console_app, principal)


@pytest.mark.parametrize("path", [*COLLECTIONS, *SINGLES])
def test_response_equals_the_one_over_http(path: str, api: ApiClient, console_app: Flask) -> None:
    result = api.get(path)
    consumer = Consumer(console_app)
    response = consumer.client.get(
        IMS + path, base_url="https://roster.example.org/", headers={"Authorization": f"Bearer {consumer.token}"}
    )
    assert (result.status, result.body) == (200, response.data)
    assert result.total == int(response.headers["X-Total-Count"])


def test_parameters_filter_sort_and_page(api: ApiClient) -> None:
    result = api.get(
        "/users", {"filter": "role='student'", "sort": "familyName", "limit": 2, "offset": 1, "fields": ""}
    )
    assert [user["sourcedId"] for user in result.records] == ["u-3", "u-1"]
    assert result.total == 4
    assert result.url == f"{IMS}/users?filter=role%3D%27student%27&sort=familyName&limit=2&offset=1"


def test_many_records_are_those_of_single_reads(api: ApiClient) -> None:
    for collection, keys in (("users", ("u-2", "u-1", "unknown", "u-2")), ("orgs", ("s-1",)), ("lineItems", ())):
        expected = {key: api.get(f"/{collection}/{key}").record for key in keys if key != "unknown"}
        assert api.find_many(f"/{collection}", keys) == expected
    assert api.find_many("/users", ["u-1"], "sourcedId") == {"u-1": {"sourcedId": "u-1"}}
    many = [f"unknown-{number}" for number in range(250)]
    assert list(api.find_many("/students", ["u-1", *many, "u-2", "u-4"])) == ["u-1", "u-2"]


def test_many_records_include_deleted_ones_and_hide_collections(
    api: ApiClient, console_app: Flask, administrator: Administrator
) -> None:
    assert api.find_many("/lineItems", ["l-3"])["l-3"]["status"] == "tobedeleted"
    principal = administrator_principal(services_of(console_app).store, administrator, "default")
    assert ApiClient(console_app, principal).find_many("/demographics", ["u-1"]) == {}


def test_failure_has_a_message_and_no_records(api: ApiClient) -> None:
    result = api.get("/users", {"filter": "nonsense"})
    assert (result.ok, result.status, result.records, result.total) == (False, 400, [], 0)
    assert "filter" in result.message
    with pytest.raises(NotFound):
        _ = api.get("/users/unknown").record


def test_ids_with_any_characters_are_quoted(api: ApiClient, console_app: Flask) -> None:
    strange = "a/b?c#d%2Fé 100%"
    from tests.support.roster_writes import write_rows
    from tests.support.small_roster import user

    write_rows(console_app, {"users": [user(strange, "student", "A", "B", ["s-1"])]})
    assert api.get(f"/users/{api.quote_id(strange)}").record["sourcedId"] == strange
    assert api.count("/users", {"filter": f"sourcedId='{strange}'"}) == 1


def test_demographics_need_request_role_and_opt_in(console_app: Flask, administrator: Administrator) -> None:
    services = services_of(console_app)
    plain = administrator_principal(services.store, administrator, "default")
    with console_app.test_request_context("/"):
        assert ApiClient(console_app, plain).get("/demographics").status == 403
        west = administrator_principal(services.store, administrator, "west", demographics=True)
        assert "demographics" in west.restrictions.denied
        fill(services.store, "west")
        assert ApiClient(console_app, west).get("/demographics").records == []
    viewer = services.administrators.create("lee", "viewer", "default", PASSWORD)
    with pytest.raises(Forbidden):
        administrator_principal(services.store, viewer, "default", demographics=True)
    with pytest.raises(NotFound):
        administrator_principal(services.store, administrator, "deleted")


def test_preview_has_the_access_of_the_credential_alone(console_app: Flask, administrator: Administrator) -> None:
    services = services_of(console_app)
    token = Principal("default", frozenset({ROSTER, DEMOGRAPHICS}), "t-1")
    preview = preview_principal(services.store, administrator, token)
    assert preview.scopes == token.scopes
    assert (preview.credential_type, preview.credential_id) == ("administrator", administrator.id)
    viewer = services.administrators.create("lee", "viewer", "default", PASSWORD)
    assert preview_principal(services.store, viewer, token).scopes == {ROSTER}


def test_http_client_cannot_be_a_principal(console_app: Flask) -> None:
    client = console_app.test_client()
    for header in (PRINCIPAL_KEY, "Chalk-Flask-Principal", "chalk_flask.principal", "HTTP_chalk_flask.principal"):
        response = client.get(f"{IMS}/users", headers={header: "default", "Cookie": f"{PRINCIPAL_KEY}=default"})
        assert response.status_code == 401


def test_token_takes_precedence_over_nothing_else(console_app: Flask, api: ApiClient) -> None:
    """A request with both is none that this process makes; the token decides."""
    token = Consumer(console_app, services_of(console_app).tokens.create("none", {ROSTER})[0]).token
    response = console_app.test_client().get(
        f"{IMS}/lineItems",
        headers={"Authorization": f"Bearer {token}"},
        environ_overrides={PRINCIPAL_KEY: api.principal},
    )
    assert response.status_code == 403


def test_access_log_names_the_administrator(tmp_path: Path) -> None:
    app = create_app(storage="memory:", data=str(tmp_path))
    services = services_of(app)
    fill(services.store)
    administrator = services.administrators.create("kim", "owner", "default", PASSWORD)
    with app.test_request_context("/"):
        ApiClient(app, administrator_principal(services.store, administrator, "default")).get("/users")
    app.test_client().get("/login")
    services.access_log.close()
    services.store.close()
    lines = [orjson.loads(line) for path in (tmp_path / "reads").iterdir() for line in path.read_bytes().splitlines()]
    assert [(line["way"], line["by"], line["route"]) for line in lines] == [
        ("administrator", administrator.id, f"{IMS}/users")
    ]


def test_scopes_of_the_administrator_change_nothing(api: ApiClient) -> None:
    assert api.principal.scopes < set(ALL)
    assert api.send("DELETE", "/results/x-1").status == 403


def test_count_is_zero_without_access_and_an_error_otherwise(console_app: Flask, administrator: Administrator) -> None:
    principal = administrator_principal(services_of(console_app).store, administrator, "default")
    with console_app.test_request_context("/"):
        client = ApiClient(console_app, principal)
        assert client.count("/demographics") == 0
        with pytest.raises(BadRequest) as raised:
            client.count("/users", {"filter": "nonsense"})
    assert "filter" in str(raised.value.description)


def test_busy_store_is_not_an_unknown_record() -> None:
    result = ApiResult(503, Headers(), b'{"message": "The server is busy."}', "/users/u-1")
    with pytest.raises(ServiceUnavailable, match="The server is busy"):
        _ = result.record
    with pytest.raises(NotFound):
        _ = ApiResult(403, Headers(), b'{"message": "hidden"}', "/users/u-1").record


def test_rates_of_the_operator_do_not_apply(tmp_path: Path) -> None:
    app = create_app(storage="memory:", rate_limit_token="1/hour", rate_limit_address="2/hour")
    services = services_of(app)
    administrator = services.administrators.create("kim", "owner", "default", PASSWORD)
    with app.test_request_context("/"):
        client = ApiClient(app, administrator_principal(services.store, administrator, "default"))
        assert [client.get("/users").status for _ in range(4)] == [200] * 4
    consumer = Consumer(app)
    assert [consumer.get("/users").status_code for _ in range(2)] == [200, 429]
    services.store.close()


def test_page_that_calls_the_api_is_no_read_itself(tmp_path: Path) -> None:
    app = create_app(storage="memory:", data=str(tmp_path))
    services = services_of(app)
    fill(services.store)
    console = Console(app)
    console.sign_in("viewer")
    console.get("/roster/users")
    services.access_log.close()
    services.store.close()
    lines = [orjson.loads(line) for path in (tmp_path / "reads").iterdir() for line in path.read_bytes().splitlines()]
    assert lines
    assert [line["route"] for line in lines if not line["route"].startswith(IMS)] == []
