"""Ids of requests: taken from a well-formed header, generated otherwise."""

from __future__ import annotations

import multiprocessing
import random

import pytest

from chalk_flask.logs.request_ids import request_id_of


@pytest.mark.parametrize(
    "sent",
    ["a", "7f3a-1", "Root=1-67891233-abcdef012345678912345678", "0af7651916cd43dd8448eb211c80319c", "x" * 128],
    ids=["short", "dash", "aws", "hex", "longest"],
)
def test_well_formed_id_is_accepted(sent: str) -> None:
    assert request_id_of({"HTTP_X_REQUEST_ID": sent}) == sent


@pytest.mark.parametrize(
    "sent",
    [
        "",
        " ",
        "a b",
        "x" * 129,
        "north@example.org",
        "a, b",
        "\xe9",
        "<b>",
        "a\n",
        "-a",
        "chk_live_1",
        "eyJhbGciOiJSUzI1NiJ9.e.s",
    ],
    ids=["empty", "blank", "space", "long", "email", "list", "latin", "html", "lf", "dash", "token", "jwt"],
)
def test_other_id_is_replaced(sent: str) -> None:
    assert request_id_of({"HTTP_X_REQUEST_ID": sent}) not in ("", sent)


@pytest.mark.parametrize("scheme", ["Bearer ", "Basic ", ""], ids=["bearer", "basic", "none"])
def test_credential_of_the_request_is_no_id(scheme: str) -> None:
    environ = {"HTTP_X_REQUEST_ID": "c2VjcmV0", "HTTP_AUTHORIZATION": f"{scheme}c2VjcmV0"}
    assert request_id_of(environ) != "c2VjcmV0"


def test_generated_id_stays_the_same_for_a_request() -> None:
    environ: dict[str, str] = {}
    assert request_id_of(environ) == request_id_of(environ)
    assert request_id_of(environ) != request_id_of({})


def test_forked_process_does_not_repeat_ids() -> None:
    context = multiprocessing.get_context("fork")
    state = random.getstate()
    own = request_id_of({})
    random.setstate(state)
    with context.Pool(1) as pool:
        [forked] = pool.map(request_id_of, [{}])
    assert forked != own
