"""Tools get in with JWTs of their own: signed by joserfc, verified by a running server with keys from a socket."""

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

from chalk_flask.permissions.scopes import DEMOGRAPHICS, RESOURCE, ROSTER
from tests.e2e.conftest import DEMO, Response, RunningService, run_command, serve
from tests.support.keys import AUDIENCE, ISSUER, JwksServer, ec_key, make_jwks, rsa_key, serve_jwks, sign_jwt

OLD, NEW, CURVE, FOREIGN = rsa_key("old"), rsa_key("new"), ec_key("curve"), rsa_key("foreign")
ROOT = "/ims/oneroster/v1p1"
FILE_ISS, ONCE_ISS, NORTH = "https://file.example.org", "https://once.example.org", "urn:north"
CANARY = "canary-8d1f"


@dataclass(frozen=True)
class District:
    """A server, the folder of its store, and where the tool publishes its keys."""

    served: RunningService
    folder: Path
    tool: JwksServer

    def ask(self, token: str, path: str = "/orgs?limit=2") -> Response:
        return replace(self.served, token=token).request(ROOT + path)


def add(folder: Path, *words: str | Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(run_command(folder, "issuer", "add", "--json", *words))
    return made


@pytest.fixture(scope="module")
def district(tmp_path_factory: pytest.TempPathFactory) -> Iterator[District]:
    folder = tmp_path_factory.mktemp("jwt")
    run_command(folder, "import", DEMO)
    run_command(folder, "tenant", "create", "north")
    keys = folder / "jwks.json"
    keys.write_bytes(make_jwks(OLD, CURVE))
    with serve_jwks(OLD, CURVE) as tool:
        add(folder, "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-url", tool.url)
        add(folder, "--iss", ISSUER, "--aud", NORTH, "--jwks-url", tool.url, "--tenant", "north")
        add(folder, "--iss", FILE_ISS, "--aud", AUDIENCE, "--jwks-file", keys, "--scope", "roster.readonly")
        add(folder, "--iss", ONCE_ISS, "--aud", AUDIENCE, "--jwks-file", keys, "--replay")
        with serve(folder, sign_jwt(OLD)) as served:
            yield District(served, folder, tool)


def part(data: object) -> str:
    """A part of a JWT; text goes in as it is, anything else as JSON."""
    raw = data.encode() if isinstance(data, str) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 60, "sub": CANARY, **changed}


def by_hand(header: object, body: object, sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    """A token that no library would make."""
    text = f"{part(header)}.{part(body)}"
    return f"{text}.{base64.urlsafe_b64encode(sign(text.encode())).rstrip(b'=').decode()}"


def confused(secret: bytes) -> str:
    """A token whose HMAC has a public key for its secret."""
    return by_hand({"alg": "HS256", "kid": "old"}, claims(), lambda text: hmac.digest(secret, text, "sha256"))


def other_algorithm(name: str, key: Any, **header: Any) -> str:
    """A token that is rightly signed with an algorithm that we do not take."""
    return jws.serialize_compact({"alg": name, "kid": key.kid, **header}, json.dumps(claims()), key, algorithms=[name])


def with_payload(text: str | bytes, **header: Any) -> str:
    """A token of the tool that is rightly signed, whatever it says."""
    return jws.serialize_compact({"alg": "RS256", "kid": "old", **header}, text, OLD)


def smuggled() -> str:
    """A token that brings the key that it was signed with."""
    head = {"alg": "RS256", "kid": "old", "jwk": FOREIGN.as_dict(private=False)}
    return jws.serialize_compact(head, json.dumps(claims()), FOREIGN)


def flipped(token: str) -> str:
    """The token with other claims under the same signature."""
    head, _, signature = token.split(".")
    return f"{head}.{part(claims(scope=DEMOGRAPHICS))}.{signature}"


WRONG: dict[str, Callable[[], str]] = {
    "none": lambda: by_hand({"alg": "none"}, claims()),
    "none in other letters": lambda: by_hand({"alg": "nOnE", "kid": "old"}, claims()),
    "no alg": lambda: by_hand({"kid": "old"}, claims()),
    "an alg that is a list": lambda: by_hand({"alg": ["RS256"]}, claims()),
    "HS256 with the public key as PEM": lambda: confused(OLD.as_pem(private=False)),
    "HS256 with the public key as DER": lambda: confused(OLD.as_der(private=False)),
    "HS256 with the public key as JWK": lambda: confused(json.dumps(OLD.as_dict(private=False)).encode()),
    "HS256 with an empty secret": lambda: confused(b""),
    "RS512": lambda: other_algorithm("RS512", OLD),
    "PS256": lambda: other_algorithm("PS256", OLD),
    "an RSA key for ES256": lambda: by_hand({"alg": "ES256", "kid": "old"}, claims(), lambda text: b"x" * 64),
    "an EC key for RS256": lambda: by_hand({"alg": "RS256", "kid": "curve"}, claims(), lambda text: b"x" * 256),
    "ES256 with zeros": lambda: by_hand({"alg": "ES256", "kid": "curve"}, claims(), lambda text: bytes(64)),
    "another key": lambda: sign_jwt(FOREIGN, {"kid": "old"}),
    "another key without kid": lambda: sign_jwt(FOREIGN, {"kid": None}),
    "no signature": lambda: sign_jwt(OLD).rpartition(".")[0] + ".",
    "half a signature": lambda: sign_jwt(OLD)[:-100],
    "other claims": lambda: flipped(sign_jwt(OLD)),
    "a key in the header": smuggled,
    "a key by address": lambda: sign_jwt(OLD, {"jku": "https://tool.example.org/jwks.json"}),
    "a certificate by address": lambda: sign_jwt(OLD, {"x5u": "https://tool.example.org/cert.pem"}),
    "a certificate": lambda: sign_jwt(OLD, {"x5c": ["AAAA"]}),
    "critical headers": lambda: with_payload(json.dumps(claims()), crit=["kid"]),
    "an unencoded payload": lambda: by_hand({"alg": "RS256", "b64": False, "crit": ["b64"]}, claims()),
    "a kid that is a number": lambda: by_hand({"alg": "RS256", "kid": 7}, claims()),
    "a header that is a list": lambda: by_hand(["alg"], claims()),
    "a header of great depth": lambda: by_hand("[" * 3000, claims()),
    "claims of great depth": lambda: with_payload("[" * 3000),
    "claims that are a list": lambda: with_payload("[]"),
    "claims that are no JSON": lambda: with_payload("claims"),
    "claims that are no UTF-8": lambda: with_payload(b"\xff\xfe"),
    "no claims": lambda: with_payload(""),
    "an exp that is NaN": lambda: with_payload(json.dumps(claims(exp=float("nan")))),
    "an exp that is null": lambda: with_payload(json.dumps(claims(exp=None))),
    "a scope that is null": lambda: with_payload(json.dumps(claims(scope=None))),
    "expired": lambda: sign_jwt(OLD, iat=int(time.time()) - 600, exp=int(time.time()) - 61),
    "not yet valid": lambda: sign_jwt(OLD, nbf=int(time.time()) + 75),
    "issued in the future": lambda: sign_jwt(OLD, iat=int(time.time()) + 75, exp=int(time.time()) + 100),
    "longer than a day": lambda: sign_jwt(OLD, exp=int(time.time()) + 86500),
    "another audience": lambda: sign_jwt(OLD, aud="https://else.example.org"),
    "two tenants at once": lambda: sign_jwt(OLD, aud=[AUDIENCE, NORTH]),
    "an unknown issuer": lambda: sign_jwt(OLD, iss="https://tool.example.com"),
    "an issuer in other letters": lambda: sign_jwt(OLD, iss=ISSUER.upper()),
    "the issuer of another audience": lambda: sign_jwt(OLD, iss=FILE_ISS, aud=NORTH),
    "over-long": lambda: sign_jwt(OLD, sub="x" * 8000),
    "four parts": lambda: sign_jwt(OLD) + ".x",
    "padding": lambda: sign_jwt(OLD) + "==",
}


@pytest.mark.parametrize("key", [OLD, CURVE], ids=["RS256", "ES256"])
def test_a_token_of_a_trusted_issuer_reads_the_roster(key: Any, district: District) -> None:
    for _ in range(2):
        answer = district.ask(sign_jwt(key))
        assert (answer.status, len(answer.records)) == (200, 2)
    assert district.ask(sign_jwt(key, iss=FILE_ISS)).status == 200


def without_name(answer: Response) -> dict[str, Any]:
    """The body without what tells one answer from every other."""
    [status] = answer.json["statusInfoSet"]
    return {**answer.json, "statusInfoSet": {**status, "imsx_messageRefIdentifier": ""}}


@pytest.mark.parametrize("why", WRONG)
def test_a_wrong_token_is_refused_like_any_other(why: str, district: District) -> None:
    """J-06"""
    answer = district.ask(WRONG[why]())
    unknown = district.ask("chk_live_" + "0" * 40)
    assert answer.status == 401
    assert answer.json["error"] == "invalid_token"
    assert without_name(answer) == without_name(unknown)
    assert answer.headers["WWW-Authenticate"] == unknown.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_clocks_may_differ_by_a_minute(district: District) -> None:
    now = int(time.time())
    assert district.ask(sign_jwt(OLD, iat=now - 600, exp=now - 45)).status == 200
    assert district.ask(sign_jwt(OLD, nbf=now + 59)).status == 200
    assert district.ask(sign_jwt(OLD, iat=now + 59, exp=now + 100)).status == 200


def test_a_token_may_ask_for_less_and_never_gets_more(district: District) -> None:
    roster = sign_jwt(OLD, scope=ROSTER)
    assert [district.ask(roster, path).status for path in ("/users", "/resources", "/demographics")] == [200, 403, 403]
    bounded = sign_jwt(OLD, iss=FILE_ISS, scope=f"{ROSTER} {RESOURCE} {DEMOGRAPHICS}")
    assert [district.ask(bounded, path).status for path in ("/users", "/resources", "/demographics")] == [200, 403, 403]
    nothing = district.ask(sign_jwt(OLD, iss=FILE_ISS, scope=DEMOGRAPHICS))
    assert (nothing.status, nothing.json["error"]) == (403, "forbidden")
    assert nothing.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope"'


def test_a_token_opens_the_tenant_of_its_audience_alone(district: District) -> None:
    [known, *_] = district.ask(sign_jwt(OLD)).records
    north = sign_jwt(OLD, aud=NORTH)
    assert district.ask(north).records == []
    foreign, unknown = (district.ask(north, f"/orgs/{name}") for name in (known["sourcedId"], "no-such-org"))
    assert (foreign.status, unknown.status) == (404, 404)
    assert foreign.json["error"] == unknown.json["error"] == "unknown_object"


def test_an_issuer_that_wants_it_has_each_token_used_once(district: District) -> None:
    token = sign_jwt(OLD, iss=ONCE_ISS, jti="first")
    assert [district.ask(token).status for _ in range(3)] == [200, 401, 401]
    assert district.ask(sign_jwt(OLD, iss=ONCE_ISS)).status == 401
    assert district.ask(sign_jwt(OLD, iss=ONCE_ISS, jti="second")).status == 200


def test_rotated_keys_are_fetched_once_and_a_server_of_keys_that_is_down_stops_nobody(district: District) -> None:
    iss = "https://rotating.example.org"
    with serve_jwks(OLD) as tool:
        add(district.folder, "--iss", iss, "--aud", AUDIENCE, "--jwks-url", tool.url)
        assert district.ask(sign_jwt(OLD, iss=iss)).status == 200
        assert district.ask(sign_jwt(OLD, iss=iss, sub="again")).status == 200
        assert tool.request_count == 1
        tool.body = make_jwks(NEW)
        assert district.ask(sign_jwt(NEW, iss=iss)).status == 200
        assert district.ask(sign_jwt(OLD, iss=iss)).status == 401
        for number in range(5):
            assert district.ask(sign_jwt(FOREIGN, {"kid": f"made up {number}"}, iss=iss)).status == 401
        assert tool.request_count == 2
    begun = time.monotonic()
    assert district.ask(sign_jwt(NEW, iss=iss, sub="after")).status == 200
    assert district.ask(sign_jwt(FOREIGN, iss=iss)).status == 401
    assert time.monotonic() - begun < 3


def test_without_any_keys_a_token_is_refused_and_the_service_goes_on(district: District) -> None:
    with serve_jwks(OLD) as gone:
        url = gone.url
    iss = "https://down.example.org"
    add(district.folder, "--iss", iss, "--aud", AUDIENCE, "--jwks-url", url)
    assert district.ask(sign_jwt(OLD, iss=iss)).status == 401
    assert district.ask(sign_jwt(OLD, iss=FILE_ISS)).status == 200


def test_removing_an_issuer_ends_its_tokens_within_a_second(district: District) -> None:
    keys = district.folder / "leaving.json"
    keys.write_bytes(make_jwks(OLD))
    made = add(district.folder, "--iss", "https://leaving.example.org", "--aud", AUDIENCE, "--jwks-file", keys)
    token = sign_jwt(OLD, iss="https://leaving.example.org")
    assert district.ask(token).status == 200
    run_command(district.folder, "issuer", "remove", made["id"])
    time.sleep(1)
    assert district.ask(token).status == 401


def test_no_part_of_a_token_gets_into_a_log_or_the_store(tmp_path: Path) -> None:
    run_command(tmp_path, "import", DEMO)
    keys = tmp_path / "jwks.json"
    keys.write_bytes(make_jwks(OLD))
    add(tmp_path, "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-file", keys, "--replay")
    good = sign_jwt(OLD, sub=CANARY, jti=CANARY)
    sent = [good, good, *(make() for make in WRONG.values())]
    with serve(tmp_path, good, "--log-level", "debug") as served:
        told = [replace(served, token=token).request(f"{ROOT}/orgs").status for token in sent]
        served.process.terminate()
        assert served.process.stderr is not None
        log = served.process.stderr.read()
    assert told == [200] + [401] * (len(sent) - 1)
    assert "a JWT is refused" in log
    secrets = {CANARY, *(each for token in sent for each in token.split(".") if len(each) > 40)}
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for secret in secrets:
        assert secret not in log
        assert not any(secret.encode() in content for content in kept)
