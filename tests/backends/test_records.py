"""Values of records from stores without limits on dynamic fields."""

from __future__ import annotations

import pytest

from backends import MAX_DYNAMIC_PATH_LENGTH, MAX_DYNAMIC_VALUES, Value, limit_dynamic_values
from backends.testing.base import COLLECTIONS

PEOPLE = COLLECTIONS[0]
STATIC: dict[str, Value] = {"name": "ada", "age": 7.0, "tags": tuple(f"tag {n}" for n in range(MAX_DYNAMIC_VALUES * 2))}
TEXTS = tuple(f"value {n}" for n in range(MAX_DYNAMIC_VALUES))
LONG_PATH = "metadata." + "x" * (MAX_DYNAMIC_PATH_LENGTH - len("metadata.") - len("metadata.y"))


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({"metadata.x": TEXTS}, {"metadata.x": TEXTS}),
        ({"metadata.x": (*TEXTS, "more")}, {"metadata.x": TEXTS}),
        ({"metadata.x": TEXTS[1:], "metadata.y": ("a", "b")}, {"metadata.x": TEXTS[1:], "metadata.y": ("a",)}),
        ({"metadata.x": TEXTS, "metadata.y": ("a",)}, {"metadata.x": TEXTS}),
        ({LONG_PATH: ("a",), "metadata.y": ("b",)}, {LONG_PATH: ("a",), "metadata.y": ("b",)}),
        ({LONG_PATH + "x": ("a",), "metadata.y": ("b",)}, {LONG_PATH + "x": ("a",)}),
        ({"metadata.x": "single", "metadata.*": ("a",)}, {"metadata.x": ("single",), "metadata.*": ("a",)}),
    ],
    ids=["most", "one more", "part", "full", "longest", "too long", "single"],
)
def test_excess_values_of_dynamic_fields_are_left_out(values: dict[str, Value], kept: dict[str, Value]) -> None:
    assert limit_dynamic_values(STATIC | values, PEOPLE) == STATIC | kept
