"""JWTs of trusted issuers: signed by joserfc, verified by a running server that fetches the keys."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws

from chalk_flask.permissions.scopes import DEMOGRAPHICS, RESOURCE, ROSTER, ROSTER_CORE
from tests.e2e.conftest import DEMO, Response, RunningService, run_command, serve
from tests.support.deliveries import wait_until
from tests.support.keys import AUDIENCE, ISSUER, ec_key, make_jwks, rsa_key, serve_jwks, sign_jwt

OLD, NEW, CURVE, FOREIGN = rsa_key("old"), rsa_key("new"), ec_key("curve"), rsa_key("foreign")
ROOT = "/ims/oneroster/v1p1"
FILE_ISSUER, SINGLE_USE_ISSUER, NORTH = "https://file.example.org", "https://once.example.org", "urn:north"
CANARY = "canary-8d1f"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class District:
    """Server and the folder of its store."""

    service: RunningService
    folder: Path

    def request(self, token: str, path: str = "/orgs?limit=2") -> Response:
        return replace(self.service, token=token).request(ROOT + path)


def add_issuer(folder: Path, *args: str | Path) -> dict[str, Any]:
    issuer: dict[str, Any] = json.loads(run_command(folder, "issuer", "add", "--json", *args))
    return issuer


@pytest.fixture(scope="module")
def district(tmp_path_factory: pytest.TempPathFactory) -> Iterator[District]:
    folder = tmp_path_factory.mktemp("jwt")
    run_command(folder, "import", DEMO)
    run_command(folder, "tenant", "create", "north")
    keys = folder / "jwks.json"
    keys.write_bytes(make_jwks(OLD, CURVE))
    with serve_jwks(OLD, CURVE) as tool:
        add_issuer(folder, "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-url", tool.url)
        add_issuer(folder, "--iss", ISSUER, "--aud", NORTH, "--jwks-url", tool.url, "--tenant", "north")
        add_issuer(folder, "--iss", FILE_ISSUER, "--aud", AUDIENCE, "--jwks-file", keys, "--scope", "roster.readonly")
        add_issuer(folder, "--iss", SINGLE_USE_ISSUER, "--aud", AUDIENCE, "--jwks-file", keys, "--replay")
        with serve(folder, sign_jwt(OLD)) as service:
            district = District(service, folder)
            wait_until(lambda: district.request(sign_jwt(OLD)).status == 200)
            wait_until(lambda: district.request(sign_jwt(OLD, aud=NORTH)).status == 200)
            yield district


def encode_part(data: object) -> str:
    """Return a part of a JWT: text as it is, anything else as JSON."""
    raw = data.encode() if isinstance(data, str) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def make_claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 60, "sub": CANARY, **changes}


def assemble(header: object, body: object, sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    """Return a token that no library would create."""
    text = f"{encode_part(header)}.{encode_part(body)}"
    return f"{text}.{base64.urlsafe_b64encode(sign(text.encode())).rstrip(b'=').decode()}"


def with_public_key_as_secret(secret: bytes) -> str:
    """Return an HS256 token whose secret is a public key (algorithm confusion)."""
    return assemble({"alg": "HS256", "kid": "old"}, make_claims(), lambda text: hmac.digest(secret, text, "sha256"))


def with_algorithm(name: str, key: Any, **header: Any) -> str:
    """Return a token with a valid signature of an unsupported algorithm."""
    return jws.serialize_compact(
        {"alg": name, "kid": key.kid, **header}, json.dumps(make_claims()), key, algorithms=[name]
    )


def with_payload(text: str | bytes, **header: Any) -> str:
    """Return a token with any payload and a valid signature of the tool."""
    return jws.serialize_compact({"alg": "RS256", "kid": "old", **header}, text, OLD)


def with_key_in_header() -> str:
    """Return a token that contains the key that signed it."""
    head = {"alg": "RS256", "kid": "old", "jwk": FOREIGN.as_dict(private=False)}
    return jws.serialize_compact(head, json.dumps(make_claims()), FOREIGN)


def with_other_claims(token: str) -> str:
    """Return the token with other claims and the same signature."""
    head, _, signature = token.split(".")
    return f"{head}.{encode_part(make_claims(scope=DEMOGRAPHICS))}.{signature}"


INVALID: dict[str, Callable[[], str]] = {
    "none": lambda: assemble({"alg": "none"}, make_claims()),
    "none in other case": lambda: assemble({"alg": "nOnE", "kid": "old"}, make_claims()),
    "no alg": lambda: assemble({"kid": "old"}, make_claims()),
    "list alg": lambda: assemble({"alg": ["RS256"]}, make_claims()),
    "HS256 with the public key as PEM": lambda: with_public_key_as_secret(OLD.as_pem(private=False)),
    "HS256 with the public key as DER": lambda: with_public_key_as_secret(OLD.as_der(private=False)),
    "HS256 with the public key as JWK": lambda: with_public_key_as_secret(
        json.dumps(OLD.as_dict(private=False)).encode()
    ),
    "HS256 with an empty secret": lambda: with_public_key_as_secret(b""),
    "RS512": lambda: with_algorithm("RS512", OLD),
    "PS256": lambda: with_algorithm("PS256", OLD),
    "an RSA key for ES256": lambda: assemble({"alg": "ES256", "kid": "old"}, make_claims(), lambda text: b"x" * 64),
    "an EC key for RS256": lambda: assemble({"alg": "RS256", "kid": "curve"}, make_claims(), lambda text: b"x" * 256),
    "ES256 with zeros": lambda: assemble({"alg": "ES256", "kid": "curve"}, make_claims(), lambda text: bytes(64)),
    "another key": lambda: sign_jwt(FOREIGN, {"kid": "old"}),
    "another key without kid": lambda: sign_jwt(FOREIGN, {"kid": None}),
    "no signature": lambda: sign_jwt(OLD).rpartition(".")[0] + ".",
    "half a signature": lambda: sign_jwt(OLD)[:-100],
    "other claims": lambda: with_other_claims(sign_jwt(OLD)),
    "key in the header": with_key_in_header,
    "key URL in the header": lambda: sign_jwt(OLD, {"jku": "https://tool.example.org/jwks.json"}),
    "certificate URL in the header": lambda: sign_jwt(OLD, {"x5u": "https://tool.example.org/cert.pem"}),
    "certificate in the header": lambda: sign_jwt(OLD, {"x5c": ["AAAA"]}),
    "critical headers": lambda: with_payload(json.dumps(make_claims()), crit=["kid"]),
    "unencoded payload": lambda: assemble({"alg": "RS256", "b64": False, "crit": ["b64"]}, make_claims()),
    "numeric kid": lambda: assemble({"alg": "RS256", "kid": 7}, make_claims()),
    "list header": lambda: assemble(["alg"], make_claims()),
    "nested header": lambda: assemble("[" * 3000, make_claims()),
    "nested claims": lambda: with_payload("[" * 3000),
    "list claims": lambda: with_payload("[]"),
    "claims that are not JSON": lambda: with_payload("claims"),
    "claims that are not UTF-8": lambda: with_payload(b"\xff\xfe"),
    "no claims": lambda: with_payload(""),
    "NaN exp": lambda: with_payload(json.dumps(make_claims(exp=float("nan")))),
    "null exp": lambda: with_payload(json.dumps(make_claims(exp=None))),
    "null scope": lambda: with_payload(json.dumps(make_claims(scope=None))),
    "expired": lambda: sign_jwt(OLD, iat=int(time.time()) - 600, exp=int(time.time()) - 61),
    "not yet valid": lambda: sign_jwt(OLD, nbf=int(time.time()) + 600),
    "issued in the future": lambda: sign_jwt(OLD, iat=int(time.time()) + 600, exp=int(time.time()) + 900),
    "longer than a day": lambda: sign_jwt(OLD, exp=int(time.time()) + 86500),
    "another audience": lambda: sign_jwt(OLD, aud="https://else.example.org"),
    "two tenants at once": lambda: sign_jwt(OLD, aud=[AUDIENCE, NORTH]),
    "unknown issuer": lambda: sign_jwt(OLD, iss="https://tool.example.com"),
    "issuer in other case": lambda: sign_jwt(OLD, iss=ISSUER.upper()),
    "issuer of another audience": lambda: sign_jwt(OLD, iss=FILE_ISSUER, aud=NORTH),
    "too long": lambda: sign_jwt(OLD, sub="x" * 8000),
    "four parts": lambda: sign_jwt(OLD) + ".x",
    "padding": lambda: sign_jwt(OLD) + "==",
}


@pytest.mark.parametrize("key", [OLD, CURVE], ids=["RS256", "ES256"])
def test_token_of_a_trusted_issuer_reads_the_roster(key: Any, district: District) -> None:
    for _ in range(2):
        response = district.request(sign_jwt(key))
        assert (response.status, len(response.records)) == (200, 2)
    assert district.request(sign_jwt(key, iss=FILE_ISSUER)).status == 200


def without_message_id(response: Response) -> dict[str, Any]:
    """Return the body without the id that is unique to each response."""
    [status] = response.json["statusInfoSet"]
    return {**response.json, "statusInfoSet": {**status, "imsx_messageRefIdentifier": ""}}


@pytest.mark.reading("J-06")
@pytest.mark.parametrize("reason", INVALID)
def test_invalid_token_gets_the_same_response_as_an_unknown_one(reason: str, district: District) -> None:
    response = district.request(INVALID[reason]())
    unknown = district.request("chk_live_" + "0" * 40)
    assert response.status == 401
    assert response.json["error"] == "invalid_token"
    assert without_message_id(response) == without_message_id(unknown)
    assert response.headers["WWW-Authenticate"] == unknown.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_clocks_may_differ_by_a_minute(district: District) -> None:
    now = int(time.time())
    assert district.request(sign_jwt(OLD, iat=now - 600, exp=now - 10)).status == 200
    assert district.request(sign_jwt(OLD, nbf=now + 59)).status == 200
    assert district.request(sign_jwt(OLD, iat=now + 59, exp=now + 100)).status == 200


def test_token_has_only_requested_scopes_of_its_issuer(district: District) -> None:
    paths = ("/users", "/resources", "/demographics")
    roster = sign_jwt(OLD, scope=ROSTER)
    limited = sign_jwt(OLD, iss=FILE_ISSUER, scope=f"{ROSTER} {RESOURCE} {DEMOGRAPHICS}")
    for token in (roster, limited):
        assert [district.request(token, path).status for path in paths] == [200, 403, 403]
    without_scope = district.request(sign_jwt(OLD, iss=FILE_ISSUER, scope=DEMOGRAPHICS))
    assert (without_scope.status, without_scope.json["error"]) == (403, "forbidden")
    challenge = f'Bearer error="insufficient_scope", scope="{ROSTER_CORE}"'
    assert without_scope.headers["WWW-Authenticate"] == challenge


def test_token_reads_only_the_tenant_of_its_audience(district: District) -> None:
    [org, *_] = district.request(sign_jwt(OLD)).records
    north = sign_jwt(OLD, aud=NORTH)
    assert district.request(north).records == []
    foreign, unknown = (district.request(north, f"/orgs/{name}") for name in (org["sourcedId"], "no-such-org"))
    assert (foreign.status, unknown.status) == (404, 404)
    assert foreign.json["error"] == unknown.json["error"] == "unknown_object"


def test_single_use_issuer_accepts_each_token_once(district: District) -> None:
    token = sign_jwt(OLD, iss=SINGLE_USE_ISSUER, jti="first")
    assert [district.request(token).status for _ in range(3)] == [200, 401, 401]
    assert district.request(sign_jwt(OLD, iss=SINGLE_USE_ISSUER)).status == 401
    assert district.request(sign_jwt(OLD, iss=SINGLE_USE_ISSUER, jti="second")).status == 200


def test_rotated_keys_are_fetched_once_and_used_while_their_server_is_down(district: District) -> None:
    iss = "https://rotating.example.org"
    with serve_jwks(OLD) as tool:
        add_issuer(district.folder, "--iss", iss, "--aud", AUDIENCE, "--jwks-url", tool.url)
        wait_until(lambda: district.request(sign_jwt(OLD, iss=iss)).status == 200)
        assert district.request(sign_jwt(OLD, iss=iss, sub="again")).status == 200
        assert tool.request_count == 1
        tool.body = make_jwks(NEW)
        assert district.request(sign_jwt(NEW, iss=iss)).status == 401, "the new set has not arrived"
        wait_until(lambda: district.request(sign_jwt(NEW, iss=iss)).status == 200)
        wait_until(lambda: district.request(sign_jwt(OLD, iss=iss)).status == 401)  # in each process, within a second
        for number in range(5):
            assert district.request(sign_jwt(FOREIGN, {"kid": f"unknown {number}"}, iss=iss)).status == 401
        assert tool.request_count == 2
    started = time.monotonic()
    assert district.request(sign_jwt(NEW, iss=iss, sub="after")).status == 200
    assert district.request(sign_jwt(FOREIGN, iss=iss)).status == 401
    assert time.monotonic() - started < 30


def test_unreachable_keys_reject_tokens_of_that_issuer_only(district: District) -> None:
    with serve_jwks(OLD) as stopped:
        url = stopped.url
    iss = "https://down.example.org"
    add_issuer(district.folder, "--iss", iss, "--aud", AUDIENCE, "--jwks-url", url)
    assert district.request(sign_jwt(OLD, iss=iss)).status == 401
    assert district.request(sign_jwt(OLD, iss=FILE_ISSUER)).status == 200


def test_removing_an_issuer_ends_its_tokens_at_once(district: District) -> None:
    keys = district.folder / "leaving.json"
    keys.write_bytes(make_jwks(OLD))
    issuer = add_issuer(district.folder, "--iss", "https://leaving.example.org", "--aud", AUDIENCE, "--jwks-file", keys)
    token = sign_jwt(OLD, iss="https://leaving.example.org")
    assert district.request(token).status == 200
    run_command(district.folder, "issuer", "remove", issuer["id"])
    assert district.request(token).status == 401


def test_log_and_store_contain_no_part_of_a_token(tmp_path: Path) -> None:
    run_command(tmp_path, "import", DEMO)
    keys = tmp_path / "jwks.json"
    keys.write_bytes(make_jwks(OLD))
    add_issuer(tmp_path, "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-file", keys, "--replay")
    valid = sign_jwt(OLD, sub=CANARY, jti=CANARY)
    tokens = [valid, valid, *(make_token() for make_token in INVALID.values())]
    with serve(tmp_path, valid, "--log-level", "debug") as service:
        statuses = [replace(service, token=token).request(f"{ROOT}/orgs").status for token in tokens]
        service.process.terminate()
        assert service.process.stderr is not None
        log = service.process.stderr.read()
    assert statuses == [200] + [401] * (len(tokens) - 1)
    assert "a JWT is rejected" in log
    secrets = {CANARY, *(each for token in tokens for each in token.split(".") if len(each) > 40)}
    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for secret in secrets:
        assert secret not in log
        assert not any(secret.encode() in content for content in contents)
