"""Responses about ids and values of another tenant equal those about unknown ones, in status, body and headers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, combinations, product
from pathlib import Path

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.api.routes import READ_ROUTES, ROOTS
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.scopes import ALL, DEMOGRAPHICS
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of, url_in
from tests.support.access.twin_tenants import (
    ALL_PARAMETERS,
    COMPARISONS,
    GUEST,
    GZIP,
    HOST,
    LINKED_PREFIX,
    NOWHERE,
    OWN_PREFIX,
    PLAIN_REQUEST,
    PREFIXES,
    REQUESTS,
    ROUTE_PATHS,
    UNKNOWN_PREFIX,
    RequestPair,
    TwinRequest,
    TwinTenants,
    Words,
    with_word_in_texts,
)
from tests.support.api_client import IMS
from tests.support.small_roster import ROSTER, Row


def _twins(app: Flask) -> Iterator[TwinTenants]:
    yield TwinTenants(app)
    services_of(app).store.close()


@pytest.fixture(scope="module")
def twins(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinTenants]:
    yield from _twins(create_app(storage=url_in(tmp_path_factory.mktemp("twins"), backend)))


@pytest.fixture(scope="module")
def lenient() -> Iterator[TwinTenants]:
    yield from _twins(create_app(storage="memory:", lenient_parent=True))


def test_places_cover_every_route_and_id_position() -> None:
    assert {route_path.route for route_path in ROUTE_PATHS} == set(READ_ROUTES)
    ids = sum(path.count("{") for route in READ_ROUTES for path in route.paths)
    assert sum(len(route_path.positions) for route_path in ROUTE_PATHS) == ids > 40


def requests_with_foreign_ids(twins: TwinTenants, prefixes: list[str] = PREFIXES) -> Iterator[RequestPair]:
    """Yield every route below every root, with each choice of ids that only the guest has, in every kind of request."""
    for route_path, prefix in product(ROUTE_PATHS, prefixes):
        chosen = chain.from_iterable(
            combinations(route_path.positions, n) for n in range(1, len(route_path.positions) + 1)
        )
        for positions, foreign_prefix in product(chosen, (OWN_PREFIX, LINKED_PREFIX)):
            path, twin = (
                prefix + route_path.with_keys(key_prefix, positions) for key_prefix in (foreign_prefix, UNKNOWN_PREFIX)
            )
            # The host also sends an ETag that only the guest can have.
            etag = twins.send(twins.guest, path).header("ETag")
            requests = (
                (*REQUESTS, TwinRequest(headers=(("If-None-Match", etag),))) if "sis" not in prefix else REQUESTS[:2]
            )
            for request in requests:
                yield path, twin, request, (foreign_prefix, UNKNOWN_PREFIX)
            yield path + "/", twin + "/", TwinRequest(), (foreign_prefix, UNKNOWN_PREFIX)


@pytest.mark.reading("N-09")
def test_foreign_id_in_a_path_looks_like_an_unknown_id(twins: TwinTenants) -> None:
    compared, different = twins.differences(requests_with_foreign_ids(twins))
    assert different == []
    assert compared >= 5000


@pytest.mark.reading("A-11")
def test_foreign_id_looks_unknown_with_lenient_parents(lenient: TwinTenants) -> None:
    compared, different = lenient.differences(requests_with_foreign_ids(lenient, [ROOTS[0].path]))
    assert different == []
    assert compared >= 2000


def requests_with_foreign_values() -> Iterator[RequestPair]:
    """Yield every collection, filtered, sorted and selected by values and fields that only the guest has."""
    for route_path in ROUTE_PATHS:
        if not route_path.route.is_collection:
            continue
        path = ROOTS[1].path + route_path.path
        for query, words in queries_of(route_path.route.resource_type):
            yield path, path, TwinRequest(query), words


def queries_of(resource_type: ResourceType) -> Iterator[tuple[str, Words]]:
    keys = {
        "sourcedId": resource_type.name,
        **{reference.name: reference.target for reference in resource_type.references},
    }
    keys |= {f"{reference.name}.sourcedId": reference.target for reference in resource_type.references}
    for field, target in keys.items():
        first = ROSTER[target][0]["sourcedId"]
        for comparison in COMPARISONS:
            yield f"filter={field}{comparison}'{OWN_PREFIX}{first}'", (OWN_PREFIX, UNKNOWN_PREFIX)
        yield (
            f"filter={field}='{LINKED_PREFIX}{first}' OR {field}='{first}'&limit=1&sort={field}",
            (LINKED_PREFIX, UNKNOWN_PREFIX),
        )
    for field, comparison in product(set(resource_type.filter_paths) - set(keys) - {"metadata.*"}, COMPARISONS):
        yield f"filter={field}{comparison}'{GUEST}'", (GUEST, NOWHERE)
    for comparison in COMPARISONS:
        yield f"filter=metadata.{GUEST}Key{comparison}'{GUEST}'", (GUEST, NOWHERE)
    for query in (f"sort=metadata.{GUEST}Key", f"sort={GUEST}", f"fields={GUEST}", f"fields=metadata,{GUEST}Key"):
        yield query, (GUEST, NOWHERE)


@pytest.mark.reading("N-09")
def test_foreign_value_in_a_filter_looks_like_an_unknown_value(twins: TwinTenants) -> None:
    compared, different = twins.differences(requests_with_foreign_values())
    assert different == []
    assert compared >= 3000


def test_response_contains_nothing_of_another_tenant(twins: TwinTenants) -> None:
    pairs_with_data = 0
    for route_path, prefix, request in product(
        ROUTE_PATHS, PREFIXES, (TwinRequest(), TwinRequest(ALL_PARAMETERS, headers=GZIP))
    ):
        # The guest reads first, so that a cache shared by mistake would show up in the response to the host.
        guest, host = (twins.send(token, prefix + route_path.path, request) for token in (twins.guest, twins.host))
        assert (guest.status, host.status) == (200, 200), route_path
        assert HOST not in guest.text
        assert not any(word in host.text for word in (GUEST, OWN_PREFIX, LINKED_PREFIX)), host.text
        pairs_with_data += HOST in host.text and GUEST in guest.text
    assert pairs_with_data > 400


def test_twinsdo_not_share_etags(twins: TwinTenants) -> None:
    for route_path, root in product(ROUTE_PATHS, ROOTS):
        path = root.path + route_path.path
        etags = {token: twins.send(token, path).header("ETag") for token in (twins.guest, twins.host)}
        assert len(set(etags.values())) == 2
        for token, etag in etags.items():
            conditional = TwinRequest(headers=(("If-None-Match", etag),))
            assert [twins.send(other, path, conditional).status for other in etags] == [
                304 if other == token else 200 for other in etags
            ]


@pytest.fixture
def writable(backend: str, tmp_path: Path) -> Iterator[TwinTenants]:
    yield from _twins(create_app(storage=url_in(tmp_path, backend)))


def requests_that_write() -> Iterator[RequestPair]:
    """Yield writes with ids of the guest: delete, put, replace, reference, delete again."""
    for name, prefix in product(("categories", "lineItems", "results"), PREFIXES):
        resource_type, row = FILES[name], ROSTER[name][0]
        key, words = row["sourcedId"], (OWN_PREFIX, UNKNOWN_PREFIX)
        paths = f"{prefix}/{name}/{OWN_PREFIX}{key}", f"{prefix}/{name}/{UNKNOWN_PREFIX}{key}"
        delete, put = (
            TwinRequest(method="DELETE"),
            TwinRequest(method="PUT", body=put_body(resource_type, row, key=OWN_PREFIX + key)),
        )
        for request in (delete, put, put, PLAIN_REQUEST, delete, PLAIN_REQUEST, delete):
            yield paths[0], paths[1], request, words
        for reference in resource_type.references:
            strange = put_body(
                resource_type, row, key=f"{OWN_PREFIX}strange", **{reference.name: OWN_PREFIX + row[reference.name]}
            )
            path, twin = (f"{prefix}/{name}/{foreign_prefix}strange" for foreign_prefix in words)
            yield path, twin, TwinRequest(method="PUT", body=strange), words


def put_body(resource_type: ResourceType, row: Row, key: str, **references: str) -> str:
    """Return the body of a grade tool, which references records by id only."""
    record = {**row, **references, "sourcedId": key}
    named = {
        reference.name: {"sourcedId": record[reference.name]}
        for reference in resource_type.references
        if reference.name in record
    }
    return json.dumps({resource_type.singular_name: {**record, **named}})


@pytest.mark.reading("N-09")
@pytest.mark.on_backend("memory", "sqlite")
def test_write_with_a_foreign_id_changes_nothing_there(writable: TwinTenants) -> None:
    before = writable.bodies("guest")
    compared, different = writable.differences(requests_that_write())
    assert different == []
    assert compared >= 100
    assert writable.statuses >= {200, 201, 204, 404, 422}
    assert writable.bodies("guest") == before


def requests_for_demographics() -> Iterator[tuple[str, TwinRequest]]:
    """Yield both routes of demographics, with known and unknown ids, in every kind of request and by every field."""
    resource_type, record = FILES["demographics"], ROSTER["demographics"][0]
    paths = ("/demographics", *(f"/demographics/{key}" for key in (record["sourcedId"], "u-3", "nope")))
    by_field = [
        TwinRequest(f"filter={field}{comparison}'{record.get(field, HOST)}'&sort={field}")
        for field, comparison in product(set(resource_type.filter_paths) - {"metadata.*"}, COMPARISONS)
    ]
    selected = [TwinRequest(f"fields={name}") for name in resource_type.fields]
    for prefix, path in product(PREFIXES, paths):
        for request in (*REQUESTS, *by_field, *selected) if path == paths[0] else REQUESTS:
            yield prefix + path, request


@pytest.mark.reading("N-10")
def test_without_opt_in_demographics_look_empty(twins: TwinTenants) -> None:
    """Without opt-in, no filter, sort or count reveals that demographics are stored."""
    services = services_of(twins.app)
    tenants, opted_out, without = TenantStore(services.store), "opted-out", "without"
    for name, opted_in in ((opted_out, False), (without, True)):
        tenants.create(name, demographics=opted_in)
        with services.store.write(name) as transaction:
            for collection, rows in ROSTER.items():
                stored = rows if collection != "demographics" or name == opted_out else []
                transaction.put(collection, [FILES[collection].record(with_word_in_texts(row, HOST)) for row in stored])
    tokens = {name: services.tokens.create(name, ALL, name)[0] for name in (opted_out, without)}

    pairs = [
        [twins.send(token, path, request).comparable("-") for token in tokens.values()]
        for path, request in requests_for_demographics()
    ]
    assert [pair for pair in pairs if pair[0] != pair[1] or pair[0][0] >= 500] == []
    assert len(pairs) > 900
    assert {status for (status, _, _), _ in pairs} >= {200, 400, 404}

    path = f"{IMS}/demographics"
    assert twins.send(tokens[opted_out], path).body == b'{"demographics":[]}'
    etag = twins.send(tokens[opted_out], path).header("ETag")
    tenants.update(opted_out, demographics=True)
    opened = twins.send(tokens[opted_out], path, TwinRequest(headers=(("If-None-Match", etag),)))
    assert (opened.status, opened.header("X-Total-Count"), opened.body.count(b"birthDate")) == (200, "2", 2)
    tenants.update(opted_out, demographics=False)
    conditional = TwinRequest(headers=(("If-None-Match", opened.header("ETag")),))
    assert twins.send(tokens[opted_out], path, conditional).body == b'{"demographics":[]}'


def test_with_opt_in_demographics_still_require_their_scope(twins: TwinTenants) -> None:
    token, _ = services_of(twins.app).tokens.create("all but one", set(ALL) - {DEMOGRAPHICS}, "host")
    for path in ("/demographics", "/demographics/u-1", "/demographics/nope"):
        rejected = twins.send(token, IMS + path)
        challenge = f'Bearer error="insufficient_scope", scope="{DEMOGRAPHICS}"'
        assert (rejected.status, rejected.header("WWW-Authenticate")) == (403, challenge)
