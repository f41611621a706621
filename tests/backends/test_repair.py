"""Comparison of values with bodies, for records of earlier versions with more values than a record can have now."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from backends import (
    MAX_DYNAMIC_VALUES,
    Collection,
    Field,
    Record,
    Value,
    limit_dynamic_values,
    open_store,
    rebuild_values,
    value_problems,
)


def values_of(body: bytes) -> Mapping[str, Value]:
    """Return the name and the texts under `metadata.x`, as in the body."""
    data = json.loads(body)
    return {"name": data["name"], "metadata.x": tuple(data["texts"])}


PEOPLE = Collection("people", (Field("name"), Field("metadata.*")), values_of=values_of)
TEXTS = [f"value {number}" for number in range(MAX_DYNAMIC_VALUES + 3, 0, -1)]
BODY = json.dumps({"name": "ada", "texts": TEXTS}).encode()


@pytest.mark.parametrize("order", ["body", "sorted"])
def test_record_without_its_excess_values_is_accepted(order: str) -> None:
    texts = TEXTS if order == "body" else sorted(TEXTS)
    with open_store("memory:", [PEOPLE]) as store:
        with store.write("a") as transaction:
            kept = limit_dynamic_values({"name": "ada", "metadata.x": tuple(texts)}, PEOPLE)
            transaction.put("people", [Record("a", BODY, kept)])
        assert value_problems(store) == []
        assert rebuild_values(store) == []


@pytest.mark.parametrize("values", [{"name": "other"}, {"name": "ada", "metadata.x": ("none of these",)}, {}])
def test_wrong_values_of_a_record_with_excess_values_are_rebuilt(values: Mapping[str, Value]) -> None:
    with open_store("memory:", [PEOPLE]) as store:
        with store.write("a") as transaction:
            transaction.put("people", [Record("a", BODY, values)])
        assert len(value_problems(store)) == 1
        assert len(rebuild_values(store)) == 1
        assert value_problems(store) == []
        with store.read("a") as snapshot:
            [stored] = snapshot.scan("people")
    texts = stored.values["metadata.x"]
    assert isinstance(texts, tuple)
    assert (stored.values["name"], len(texts)) == ("ada", MAX_DYNAMIC_VALUES)
