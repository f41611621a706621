"""Cache of redacted members: bounded in bytes, also during one long response, and in the number of policies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends import Backend, open_store
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.policy import AccessPolicy, policy_for_restrictions
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.serialization import DocumentSerializer, RedactionCache, ReferenceLookup
from chalk_flask.storage import COLLECTIONS
from tests.support.small_roster import org, user

SCHOOLS = 200
USERS = 40


@pytest.fixture
def store() -> Iterator[Backend]:
    """Store with many schools, and users who each belong to most of them, so that their references are long."""
    schools = [org(f"s-{number}", "school") for number in range(SCHOOLS)]
    with open_store("memory:", COLLECTIONS) as opened:
        with opened.write("default") as transaction:
            transaction.put("orgs", map(RESOURCES["orgs"].record, schools))
            transaction.put("users", (RESOURCES["users"].record(row) for row in users()))
        yield opened


def users() -> Iterator[dict[str, object]]:
    for number in range(USERS):
        orgs = [f"s-{other}" for other in range(SCHOOLS) if other != number]
        yield user(f"u-{number:03}", "student", "Ada", "Lovelace", orgs)


def policy_for_org(name: str) -> AccessPolicy:
    return policy_for_restrictions(AccessRestrictions(orgs=frozenset({name})))


def test_cached_members_are_limited_in_bytes_during_a_response(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RedactionCache, "MAX_BYTES", 100_000)
    cache = RedactionCache()
    with store.read("default") as snapshot:
        lookup = ReferenceLookup(snapshot, "default", cache)
        bodies = [snapshot.get_many("users", [f"u-{number:03}"])[f"u-{number:03}"] for number in range(USERS)]
        assert sum(map(len, bodies)) > 4 * RedactionCache.MAX_BYTES
        for _ in range(2):
            serializer = DocumentSerializer(RESOURCES["users"], "https://x.example", policy_for_org("s-199"), lookup)
            for rendered in serializer.render(bodies):
                assert rendered.count(b'"type":"org"') == 1
                assert b'"sourcedId":"s-199"' in rendered
                assert cache.size < RedactionCache.MAX_BYTES + 2 * max(map(len, bodies))


def test_cached_policies_are_limited_in_number(store: Backend) -> None:
    cache = RedactionCache()
    with store.read("default") as snapshot:
        lookup = ReferenceLookup(snapshot, "default", cache)
        for number in range(RedactionCache.MAX_ENTRIES + 10):
            policy = policy_for_org(f"x-{number}")
            DocumentSerializer(RESOURCES["users"], "https://x.example", policy, lookup)
            assert len(cache) <= RedactionCache.MAX_ENTRIES
