"""Stored credentials with missing or invalid members."""

from __future__ import annotations

import orjson
import pytest

from backends import Record
from backends.copy import CONTROL
from chalk_flask.auth.tokens.store import COLLECTION, token_hash
from tests.conftest import Serve, services_of
from tests.support.api_client import CHALK, Consumer


@pytest.mark.parametrize("change", [{"label": None}, {"created": "yesterday"}, {"scopes": 5}, {"limits": [1]}])
def test_damaged_credential_is_an_error_of_storage(serve: Serve, change: dict[str, object]) -> None:
    app = serve()
    token = Consumer(app).token
    key = token_hash(token)
    with services_of(app).store.write(CONTROL) as control:
        stored = orjson.loads(control.get_many(COLLECTION, [key])[key]) | change
        body = orjson.dumps({name: value for name, value in stored.items() if value is not None or name == "expires"})
        control.put(COLLECTION, [Record(key, body, {"id": stored["id"], "tenant": stored["tenant"]})])
    assert Consumer(app, token).get(f"{CHALK}/users").status_code == 503
