"""The path of the description: who may read it, its address, and its headers."""

from __future__ import annotations

import gzip
import json

from flask import Flask

from tests.conftest import Serve


def test_anyone_can_read_the_document(served: Flask) -> None:
    response = served.test_client().get("/openapi.json")
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Set-Cookie" not in response.headers
    assert served.test_client().post("/openapi.json").status_code == 405


def test_document_is_compressed_and_not_sent_twice(served: Flask) -> None:
    client = served.test_client()
    compressed = client.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(compressed.data) == client.get("/openapi.json").data
    headers = {"Accept-Encoding": "gzip", "If-None-Match": compressed.headers["ETag"]}
    assert client.get("/openapi.json", headers=headers).status_code == 304


def test_addresses_are_those_of_the_request(served: Flask) -> None:
    client = served.test_client()
    for base in ("http://one.example", "https://two.example:8443"):
        document = client.get("/openapi.json", base_url=base).get_json()
        assert [server["url"] for server in document["servers"]] == [
            f"{base}/ims/oneroster/v1p1",
            f"{base}/api/oneroster/v1p1",
        ]
        flows = document["components"]["securitySchemes"]["oauth2"]["flows"]
        assert flows["clientCredentials"]["tokenUrl"] == f"{base}/oauth/token"
        assert "{{" not in json.dumps(document)
    assert client.get("/openapi.json", headers={"Host": "a<b>"}).status_code == 400


def test_settings_decide_address_and_maximum(serve: Serve) -> None:
    app = serve(public_url="https://roster.example.org", max_limit=500, console=False)
    document = app.test_client().get("/openapi.json").get_json()
    assert document["servers"][0]["url"] == "https://roster.example.org/ims/oneroster/v1p1"
    assert document["components"]["parameters"]["Limit"]["schema"]["maximum"] == 500


def test_operator_can_turn_the_description_off(serve: Serve) -> None:
    client = serve(api_description=False, console=False).test_client()
    assert [client.get(path).status_code for path in ("/openapi.json", "/docs", "/docs/docs.js")] == [404] * 3
    assert "openapi" not in client.get("/").get_json()
