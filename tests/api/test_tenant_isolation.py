"""Responses about ids and values of another tenant equal those about unknown ones, in status, body and headers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, combinations, product
from pathlib import Path

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.api.routes import ROOTS, ROUTES
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.scopes import ALL, DEMOGRAPHICS
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of, url_in
from tests.support.api_client import IMS
from tests.support.small_roster import ROSTER, Row
from tests.support.twin_tenants import (
    ABSENT,
    COMPARISONS,
    EVERYTHING_AT_ONCE,
    GUEST,
    GZIP,
    HOST,
    LINKED,
    NOWHERE,
    OWN,
    PLACES,
    PLAIN,
    PREFIXES,
    QUESTIONS,
    Pair,
    Question,
    Twins,
    Words,
    marked,
)


def _twins(app: Flask) -> Iterator[Twins]:
    yield Twins(app)
    services_of(app).store.close()


@pytest.fixture(scope="module")
def twins(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    yield from _twins(create_app(storage=url_in(tmp_path_factory.mktemp("twins"), backend)))


@pytest.fixture(scope="module")
def lenient() -> Iterator[Twins]:
    yield from _twins(create_app(storage="memory:", lenient_parent=True))


def test_places_cover_every_route_and_id_position() -> None:
    assert {place.route for place in PLACES} == set(ROUTES)
    ids = sum(path.count("{") for route in ROUTES for path in route.paths)
    assert sum(len(place.positions) for place in PLACES) == ids > 40


def ids_in_paths(twins: Twins, prefixes: list[str] = PREFIXES) -> Iterator[Pair]:
    """Every route below every prefix with every choice of ids that the guest alone has, asked in every way."""
    for place, prefix in product(PLACES, prefixes):
        chosen = chain.from_iterable(combinations(place.positions, n) for n in range(1, len(place.positions) + 1))
        for positions, start in product(chosen, (OWN, LINKED)):
            path, twin = (prefix + place.with_keys(each, positions) for each in (start, ABSENT))
            # What the guest holds of its own is no news to a server that the host asks with it.
            tag = twins.ask(twins.guest, path).header("ETag")
            questions = (
                (*QUESTIONS, Question(headers=(("If-None-Match", tag),))) if "sis" not in prefix else QUESTIONS[:2]
            )
            for question in questions:
                yield path, twin, question, (start, ABSENT)
            yield path + "/", twin + "/", Question(), (start, ABSENT)


@pytest.mark.reading("N-09")
def test_foreign_id_in_a_path_looks_like_an_unknown_id(twins: Twins) -> None:
    compared, different = twins.differences(ids_in_paths(twins))
    assert different == []
    assert compared >= 5000


@pytest.mark.reading("A-11")
def test_foreign_id_looks_unknown_with_lenient_parents(lenient: Twins) -> None:
    compared, different = lenient.differences(ids_in_paths(lenient, [ROOTS[0].path]))
    assert different == []
    assert compared >= 2000


def values_in_filters() -> Iterator[Pair]:
    """Every collection, filtered by each field with what the guest alone has there, and sorted and selected by it."""
    for place in PLACES:
        if not place.route.is_collection:
            continue
        path = ROOTS[1].path + place.path
        for query, words in asked_of(place.route.resource_type):
            yield path, path, Question(query), words


def asked_of(resource: ResourceType) -> Iterator[tuple[str, Words]]:
    keys = {"sourcedId": resource.name, **{each.name: each.target for each in resource.references}}
    keys |= {f"{each.name}.sourcedId": each.target for each in resource.references}
    for field, target in keys.items():
        first = ROSTER[target][0]["sourcedId"]
        for comparison in COMPARISONS:
            yield f"filter={field}{comparison}'{OWN}{first}'", (OWN, ABSENT)
        yield f"filter={field}='{LINKED}{first}' OR {field}='{first}'&limit=1&sort={field}", (LINKED, ABSENT)
    for field, comparison in product(set(resource.filter_paths) - set(keys) - {"metadata.*"}, COMPARISONS):
        yield f"filter={field}{comparison}'{GUEST}'", (GUEST, NOWHERE)
    for comparison in COMPARISONS:
        yield f"filter=metadata.{GUEST}Key{comparison}'{GUEST}'", (GUEST, NOWHERE)
    for query in (f"sort=metadata.{GUEST}Key", f"sort={GUEST}", f"fields={GUEST}", f"fields=metadata,{GUEST}Key"):
        yield query, (GUEST, NOWHERE)


@pytest.mark.reading("N-09")
def test_foreign_value_in_a_filter_looks_like_an_unknown_value(twins: Twins) -> None:
    compared, different = twins.differences(values_in_filters())
    assert different == []
    assert compared >= 3000


def test_response_contains_nothing_of_another_tenant(twins: Twins) -> None:
    seen = 0
    for place, prefix, question in product(PLACES, PREFIXES, (Question(), Question(EVERYTHING_AT_ONCE, headers=GZIP))):
        # The guest asks first, so that what is remembered of its answers would show in the host's.
        guest, host = (twins.ask(token, prefix + place.path, question) for token in (twins.guest, twins.host))
        assert (guest.status, host.status) == (200, 200), place
        assert HOST not in guest.whole
        assert not any(word in host.whole for word in (GUEST, OWN, LINKED)), host.whole
        seen += HOST in host.whole and GUEST in guest.whole
    assert seen > 400


def test_tenants_do_not_share_etags(twins: Twins) -> None:
    for place, root in product(PLACES, ROOTS):
        path = root.path + place.path
        tags = {token: twins.ask(token, path).header("ETag") for token in (twins.guest, twins.host)}
        assert len(set(tags.values())) == 2
        for token, tag in tags.items():
            held = Question(headers=(("If-None-Match", tag),))
            assert [twins.ask(each, path, held).status for each in tags] == [
                304 if each == token else 200 for each in tags
            ]


@pytest.fixture
def written(backend: str, tmp_path: Path) -> Iterator[Twins]:
    yield from _twins(create_app(storage=url_in(tmp_path, backend)))


def writes_of_the_gradebook() -> Iterator[Pair]:
    """Records that the guest has: deleted, written, written anew, referred to by others, deleted again."""
    for name, prefix in product(("categories", "lineItems", "results"), PREFIXES):
        resource, row = FILES[name], ROSTER[name][0]
        key, words = row["sourcedId"], (OWN, ABSENT)
        paths = f"{prefix}/{name}/{OWN}{key}", f"{prefix}/{name}/{ABSENT}{key}"
        delete, put = Question(method="DELETE"), Question(method="PUT", body=put_body(resource, row, key=OWN + key))
        for question in (delete, put, put, PLAIN, delete, PLAIN, delete):
            yield paths[0], paths[1], question, words
        for reference in resource.references:
            strange = put_body(resource, row, key=f"{OWN}strange", **{reference.name: OWN + row[reference.name]})
            path, twin = (f"{prefix}/{name}/{start}strange" for start in words)
            yield path, twin, Question(method="PUT", body=strange), words


def put_body(resource: ResourceType, row: Row, key: str, **references: str) -> str:
    """What a grade tool sends: references by id alone."""
    held = {**row, **references, "sourcedId": key}
    named = {each.name: {"sourcedId": held[each.name]} for each in resource.references if each.name in held}
    return json.dumps({resource.singular_name: {**held, **named}})


@pytest.mark.reading("N-09")
def test_write_with_a_foreign_id_changes_nothing_there(written: Twins) -> None:
    before = written.held("guest")
    compared, different = written.differences(writes_of_the_gradebook())
    assert different == []
    assert compared >= 100
    assert written.statuses >= {200, 201, 204, 404, 422}
    assert written.held("guest") == before


def demographics_in_every_way() -> Iterator[tuple[str, Question]]:
    """The two routes of demographics, with known and unknown ids, in every way and by every field."""
    resource, known = FILES["demographics"], ROSTER["demographics"][0]
    paths = ("/demographics", *(f"/demographics/{each}" for each in (known["sourcedId"], "u-3", "nope")))
    by_field = [
        Question(f"filter={field}{comparison}'{known.get(field, HOST)}'&sort={field}")
        for field, comparison in product(set(resource.filter_paths) - {"metadata.*"}, COMPARISONS)
    ]
    selected = [Question(f"fields={name}") for name in resource.fields]
    for prefix, path in product(PREFIXES, paths):
        for question in (*QUESTIONS, *by_field, *selected) if path == paths[0] else QUESTIONS:
            yield prefix + path, question


@pytest.mark.reading("N-10")
def test_without_opt_in_demographics_look_empty(twins: Twins) -> None:
    """The scope alone opens nothing: neither a filter nor a sort nor a count tells that there are any."""
    chalk = services_of(twins.app)
    tenants, opted_out, without = TenantStore(chalk.store), "opted-out", "without"
    for name, wanted in ((opted_out, False), (without, True)):
        tenants.create(name, demographics=wanted)
        with chalk.store.write(name) as transaction:
            for each, rows in ROSTER.items():
                kept = rows if each != "demographics" or name == opted_out else []
                transaction.put(each, [FILES[each].record(marked(row, HOST)) for row in kept])
    tokens = {name: chalk.tokens.create(name, ALL, name)[0] for name in (opted_out, without)}

    found = [[twins.ask(t, *each).told_of("-") for t in tokens.values()] for each in demographics_in_every_way()]
    assert [pair for pair in found if pair[0] != pair[1] or pair[0][0] >= 500] == []
    assert len(found) > 900
    assert {status for (status, _, _), _ in found} >= {200, 400, 404}

    path = f"{IMS}/demographics"
    assert twins.ask(tokens[opted_out], path).body == b'{"demographics":[]}'
    tag = twins.ask(tokens[opted_out], path).header("ETag")
    tenants.update(opted_out, demographics=True)
    opened = twins.ask(tokens[opted_out], path, Question(headers=(("If-None-Match", tag),)))
    assert (opened.status, opened.header("X-Total-Count"), opened.body.count(b"birthDate")) == (200, "2", 2)
    tenants.update(opted_out, demographics=False)
    held = Question(headers=(("If-None-Match", opened.header("ETag")),))
    assert twins.ask(tokens[opted_out], path, held).body == b'{"demographics":[]}'


def test_with_opt_in_demographics_still_require_their_scope(twins: Twins) -> None:
    token, _ = services_of(twins.app).tokens.create("all but one", set(ALL) - {DEMOGRAPHICS}, "host")
    for path in ("/demographics", "/demographics/u-1", "/demographics/nope"):
        refused = twins.ask(token, IMS + path)
        assert (refused.status, refused.header("WWW-Authenticate")) == (403, 'Bearer error="insufficient_scope"')
