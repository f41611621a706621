"""Rendering of stored documents for one access policy."""

from __future__ import annotations

import json

import pytest

from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.policy import UNRESTRICTED, policy_for_restrictions
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.serialization import DocumentSerializer
from tests.support.small_roster import ROSTER


def test_serializer_renders_each_chunk_with_absolute_references() -> None:
    orgs = RESOURCES["orgs"]
    chunks = [orgs.record(row).body for row in ROSTER["orgs"][1:3]]
    fields = ("sourcedId", "parent")
    serializer = DocumentSerializer(orgs, "https://x.example/root", UNRESTRICTED, fields=fields)
    rendered = list(serializer.render(chunks))
    assert rendered == [
        b'{"sourcedId":"%b","parent":{"href":"https://x.example/root/orgs/d-1","sourcedId":"d-1","type":"org"}}' % key
        for key in (b"s-1", b"s-2")
    ]


def test_escapes_in_texts_stay_beside_absolute_references() -> None:
    orgs = RESOURCES["orgs"]
    row = {**ROSTER["orgs"][1], "name": 'Say "yes" \\/ no\n'}
    chunk = orgs.record(row).body
    serializer = DocumentSerializer(orgs, "https://x.example/root", UNRESTRICTED)
    (rendered,) = serializer.render([chunk])
    assert json.loads(rendered)["name"] == row["name"]
    assert json.loads(rendered)["parent"]["href"] == "https://x.example/root/orgs/d-1"


def test_serializer_needs_no_search_without_escapes() -> None:
    orgs = RESOURCES["orgs"]
    chunks = [orgs.record(row).body for row in ROSTER["orgs"]]
    serializer = DocumentSerializer(orgs, "https://x.example/root", UNRESTRICTED)
    assert [*serializer.render(chunks, has_escapes=False)] == [*serializer.render(chunks)]


def test_serializer_of_a_restricted_policy_requires_a_lookup() -> None:
    policy = policy_for_restrictions(AccessRestrictions.parse(orgs=["s-1"]))
    with pytest.raises(ValueError, match="requires a reference lookup"):
        DocumentSerializer(RESOURCES["users"], "https://x.example", policy)
