"""Error 404 of reads: the id in the path, and the reason for callers without restrictions."""

from __future__ import annotations

import pytest
from flask import Flask

from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL, GRADEBOOK
from tests.api.reads.test_views import UNKNOWN_OBJECT
from tests.conftest import services_of
from tests.support.api_client import Consumer, error_message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/users/none", "There is no user 'none'."),
        ("/users/" + "n" * 200, f"There is no user '{'n' * 75}'...."),
        ("/schools/none/students", "There is no org 'none'."),
        ("/schools/d-1/students", "The org 'd-1' is not one of /schools."),
        ("/schools/d-1", "The org 'd-1' is not one of /schools."),
        ("/schools/s-1/classes/none/students", "There is no class 'none'."),
        ("/schools/s-1/classes/c-3/students", "The class 'c-3' does not belong to 's-1'."),
        ("/classes/c-1/students/u-4/results", "The user 'u-4' is not one of /students."),
        ("/terms/y-1", None),
        ("/terms/g-1", "The academicSession 'g-1' is not one of /terms."),
        ("/results/x-4", "The result 'x-4' is deleted."),
    ],
    ids=["single", "long", "parent", "type", "school", "inner", "outside", "role", "term", "period", "deleted"],
)
def test_message_names_the_id_and_the_reason(consumer: Consumer, path: str, message: str | None) -> None:
    response = consumer.get(path)
    if message is None:
        assert response.status_code == 200
    else:
        assert error_message(response, 404, *UNKNOWN_OBJECT) == message


AT_ONE_SCHOOL = AccessRestrictions(orgs=frozenset({"s-1"}))


@pytest.mark.parametrize(
    ("path", "hidden", "scopes", "restrictions"),
    [
        ("/users/{}", "u-5", ALL, AT_ONE_SCHOOL),
        ("/schools/{}/students", "s-2", ALL, AT_ONE_SCHOOL),
        ("/schools/s-1/classes/{}/students", "c-3", ALL, AT_ONE_SCHOOL),
        ("/classes/c-1/students/{}/results", "u-5", ALL, AT_ONE_SCHOOL),
        ("/classes/c-1/students/{}/results", "u-4", (GRADEBOOK,), AccessRestrictions()),
    ],
    ids=["user", "school", "class", "student", "scope"],
)
def test_hidden_object_looks_like_an_unknown_one(
    served: Flask, path: str, hidden: str, scopes: tuple[str, ...], restrictions: AccessRestrictions
) -> None:
    token, _ = services_of(served).tokens.create("x", scopes, restrictions=restrictions)
    texts = [
        error_message(Consumer(served, token).get(path.format(key)), 404, *UNKNOWN_OBJECT).replace(key, "ID")
        for key in (hidden, "none")
    ]
    assert texts[0] == texts[1]
    assert texts[0].endswith("'ID'.")
