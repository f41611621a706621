"""Client of an identity provider: requests that it sends, and responses of the provider that it rejects."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from chalk_flask.https import client as https_client
from chalk_flask.oidc import Identity, OidcClient, ProviderError, SignInCanceledError, SignInExpiredError
from chalk_flask.oidc.client import PENDING_SECONDS
from tests.oidc.conftest import settings_for
from tests.support.clock import FakeClock
from tests.support.keys import ec_key, make_jwks, rsa_key
from tests.support.oidc.fake_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    DISCOVERY,
    JWKS,
    TOKEN,
    USERINFO,
    Answer,
    FakeProvider,
    authorization_params,
)

NONE_HEADER, HS256_HEADER = b'{"alg":"none"}', b'{"alg":"HS256"}'
REDIRECT_URI = "https://roster.example.org/login/oidc/callback"


def sign_in(client: OidcClient, provider: FakeProvider, **claims: Any) -> Identity:
    """Sign in with an account that has these claims."""
    url, pending = client.begin(REDIRECT_URI, "")
    return client.complete(pending, provider.approve(url, **claims))


def test_request_has_pkce_state_nonce_and_scopes(client: OidcClient, provider: FakeProvider) -> None:
    url, pending = client.begin(REDIRECT_URI, "/imports")
    params = authorization_params(url)
    digest = hashlib.sha256(pending.code_verifier.encode()).digest()
    assert url.startswith(f"{provider.issuer}/authorize?")
    assert params == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": REDIRECT_URI,
        "scope": "openid email profile",
        "state": pending.state,
        "nonce": pending.nonce,
        "code_challenge": encode(digest),
        "code_challenge_method": "S256",
    }
    assert len({pending.state, pending.nonce, pending.code_verifier}) == 3
    assert client.begin(REDIRECT_URI, "")[1].state != pending.state


def test_code_is_exchanged_with_verifier_and_basic_authentication(client: OidcClient, provider: FakeProvider) -> None:
    url, pending = client.begin(REDIRECT_URI, "")
    identity = client.complete(pending, provider.approve(url))
    assert (identity.issuer, identity.subject) == (provider.issuer, "user-1")
    [(headers, form)] = [(headers, form) for path, headers, form in provider.requests if path == TOKEN]
    assert form == {
        "grant_type": "authorization_code",
        "code": "code-1",
        "redirect_uri": REDIRECT_URI,
        "code_verifier": pending.code_verifier,
    }
    credentials = base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode()
    assert credentials == f"{CLIENT_ID}:s3cret%2Bwith%2Fspecial%3Acharacters%25"


def test_secret_is_posted_if_the_provider_wants_that(client: OidcClient, provider: FakeProvider) -> None:
    provider.metadata["token_endpoint_auth_methods_supported"] = ["private_key_jwt", "client_secret_post"]
    sign_in(client, provider)
    [(headers, form)] = [(headers, form) for path, headers, form in provider.requests if path == TOKEN]
    assert (form["client_id"], form["client_secret"]) == (CLIENT_ID, CLIENT_SECRET)
    assert "authorization" not in headers


def test_scope_of_a_mapped_claim_is_requested_if_there_is_one(provider: FakeProvider) -> None:
    provider.metadata["scopes_supported"] = ["openid", "email", "groups", "phone"]
    client = OidcClient(settings_for(provider, "groups:ops=*:owner, roles:x=default:viewer"))
    assert authorization_params(client.begin(REDIRECT_URI, "")[0])["scope"] == "openid email groups"


def test_endpoints_and_keys_are_fetched_once(client: OidcClient, provider: FakeProvider) -> None:
    for _ in range(3):
        sign_in(client, provider)
    assert sorted(set(provider.paths()) - {TOKEN}) == sorted([DISCOVERY, JWKS])
    assert provider.paths().count(DISCOVERY) == provider.paths().count(JWKS) == 1


def test_new_key_of_the_provider_is_fetched(client: OidcClient, provider: FakeProvider, clock: FakeClock) -> None:
    client._provider._keys._clock = clock.time
    sign_in(client, provider)
    provider.key = ec_key("new")
    with pytest.raises(ProviderError, match="no key of the provider"):
        sign_in(client, provider)
    clock.advance(31)
    assert sign_in(client, provider).subject == "user-1"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"exp": None},
        {"exp": "never"},
        {"iat": None},
        {"iat": 32503680000},
        {"nbf": 32503680000},
        {"aud": "other-client"},
        {"aud": None},
        {"aud": []},
        {"aud": ["other-client", CLIENT_ID]},
        {"aud": [[CLIENT_ID]]},
        {"azp": "other-client"},
        {"azp": [CLIENT_ID]},
        {"iss": "https://other.example.org"},
        {"iss": None},
        {"iss": ["x"]},
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": 1},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
        {"at_hash": ["x"]},
        {"padding": "x" * 33_000},
    ],
    ids=str,
)
def test_id_token_with_wrong_claims_is_rejected(
    claims: dict[str, Any], client: OidcClient, provider: FakeProvider
) -> None:
    with pytest.raises(ProviderError, match="the ID token is rejected"):
        sign_in(client, provider, **claims)


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(provider: FakeProvider) -> str:
    return f"{encode(NONE_HEADER)}.{provider.make_token().split('.')[1]}."


def tampered(provider: FakeProvider) -> str:
    head, body, signature = provider.make_token().split(".")
    other = provider.make_token(sub="user-2").split(".")[1]
    assert other != body
    return f"{head}.{other}.{signature}"


def signed_with_the_public_key(provider: FakeProvider) -> str:
    """Return a token for whose HS256 signature the public keys are the secret."""
    text = f"{encode(HS256_HEADER)}.{provider.make_token().split('.')[1]}"
    return f"{text}.{encode(hmac.digest(make_jwks(provider.key), text.encode(), 'sha256'))}"


def with_own_key(provider: FakeProvider) -> str:
    provider.key, published = rsa_key("attacker"), provider.key
    try:
        return provider.make_token({"kid": "provider", "jwk": provider.key.as_dict(private=False)})
    finally:
        provider.key = published


def of_another_key(provider: FakeProvider) -> str:
    provider.key, published = rsa_key("attacker"), provider.key
    try:
        return provider.make_token({"kid": "provider"})
    finally:
        provider.key = published


FORGERIES: list[Callable[[FakeProvider], str]] = [
    unsigned,
    tampered,
    signed_with_the_public_key,
    with_own_key,
    of_another_key,
    lambda _: "not.a.token",
    lambda _: "a" * 40_000,
    lambda _: "",
]


@pytest.mark.parametrize(
    "forge", FORGERIES, ids=["unsigned", "tampered", "hs256", "own-key", "other-key", "garbage", "long", "empty"]
)
def test_forged_id_token_is_rejected(
    forge: Callable[[FakeProvider], str], client: OidcClient, provider: FakeProvider
) -> None:
    url, pending = client.begin(REDIRECT_URI, "")
    params = provider.approve(url)
    forged = forge(provider)
    provider.answers[TOKEN] = Answer({"id_token": forged, "access_token": "at-1"})
    with pytest.raises(ProviderError, match="the ID token is rejected"):
        client.complete(pending, params)


def test_response_is_accepted_once(client: OidcClient, provider: FakeProvider) -> None:
    url, pending = client.begin(REDIRECT_URI, "")
    params = provider.approve(url)
    client.complete(pending, params)
    with pytest.raises(SignInExpiredError, match="used before"):
        client.complete(pending, params)
    assert provider.paths().count(TOKEN) == 1


def test_response_to_another_sign_in_is_rejected(client: OidcClient, provider: FakeProvider) -> None:
    (url, _), (_, pending) = client.begin(REDIRECT_URI, ""), client.begin(REDIRECT_URI, "")
    for params in (provider.approve(url), {}, {"code": "x"}):
        with pytest.raises(SignInExpiredError):
            client.complete(pending, params)
    assert TOKEN not in provider.paths()


def test_late_response_is_rejected(provider: FakeProvider, clock: FakeClock) -> None:
    client = OidcClient(settings_for(provider), now=clock)
    url, pending = client.begin(REDIRECT_URI, "")
    clock.advance(PENDING_SECONDS)
    with pytest.raises(SignInExpiredError, match="late"):
        client.complete(pending, provider.approve(url))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"error": "access_denied", "error_description": "<b>hush</b>"}, SignInCanceledError),
        ({"error": "server_error"}, ProviderError),
        ({"error": "<script>hush"}, ProviderError),
        ({"code": ""}, ProviderError),
        ({"code": "a\nb"}, ProviderError),
        ({"iss": "https://other.example.org"}, ProviderError),
    ],
    ids=["denied", "server-error", "unknown", "no-code", "line-break", "other-issuer"],
)
def test_error_of_the_provider_is_reported_without_its_text(
    changes: dict[str, str], error: type[Exception], client: OidcClient, provider: FakeProvider
) -> None:
    url, pending = client.begin(REDIRECT_URI, "")
    with pytest.raises(error) as caught:
        client.complete(pending, provider.approve(url) | changes)
    assert "hush" not in str(caught.value)


def test_response_without_issuer_is_rejected_if_it_must_have_one(client: OidcClient, provider: FakeProvider) -> None:
    provider.metadata["authorization_response_iss_parameter_supported"] = True
    url, pending = client.begin(REDIRECT_URI, "")
    params = provider.approve(url)
    del params["iss"]
    with pytest.raises(ProviderError, match="another issuer"):
        client.complete(pending, params)


WRONG_ANSWERS = {
    "not-json": Answer(b"<html>gateway</html>"),
    "list": Answer([1]),
    "empty": Answer(b""),
    "not-found": Answer({"error": "x"}, 404),
    "server-error": Answer({}, 500),
    "redirect": Answer({}, 302, {"Location": "http://127.0.0.1:9/"}),
    "huge": Answer(b" " * (https_client.MAX_RESPONSE_BYTES + 1)),
    "cut": Answer(b"{}", headers={"Content-Length": "900"}),
    "nested": Answer(b"[" * 100_000),
    "compressed": Answer(b"\x1f\x8b\x08\x00", headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("path", [DISCOVERY, JWKS, TOKEN, USERINFO])
@pytest.mark.parametrize("answer", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_wrong_answer_of_the_provider_is_a_provider_error(path: str, answer: Answer, provider: FakeProvider) -> None:
    client = OidcClient(settings_for(provider, "groups:ops=*:owner"))
    provider.answers[path] = answer
    with pytest.raises(ProviderError):
        sign_in(client, provider)


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://other.example.org"},
        {"issuer": None},
        {"authorization_endpoint": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": "http://provider.example.org/token"},
        {"jwks_uri": ["x"]},
        {"userinfo_endpoint": 7},
        {"token_endpoint_auth_methods_supported": ["private_key_jwt"]},
    ],
    ids=str,
)
def test_unusable_endpoints_are_a_provider_error(
    metadata: dict[str, Any], client: OidcClient, provider: FakeProvider
) -> None:
    provider.metadata = metadata
    with pytest.raises(ProviderError):
        sign_in(client, provider)


@pytest.mark.parametrize(
    "tokens",
    [{}, {"id_token": 7}, {"id_token": None}, {"error": "invalid_client"}, {"error": ["x"]}, {"expires_in": "soon"}],
    ids=str,
)
def test_token_response_without_id_token_is_a_provider_error(
    tokens: dict[str, Any], client: OidcClient, provider: FakeProvider
) -> None:
    provider.answers[TOKEN] = Answer(tokens, 400 if "error" in tokens else 200)
    with pytest.raises(ProviderError):
        sign_in(client, provider)


def test_wrong_client_secret_is_named_in_the_error(client: OidcClient, provider: FakeProvider) -> None:
    provider.answers[TOKEN] = Answer({"error": "invalid_client", "error_description": "hush"}, 401)
    with pytest.raises(ProviderError, match="the error invalid_client"):
        sign_in(client, provider)


def test_provider_that_is_down_is_asked_again_after_seconds(clock: FakeClock, provider: FakeProvider) -> None:
    client = OidcClient(settings_for(provider))
    client._provider._metadata._clock = clock.time
    provider.answers[DISCOVERY] = Answer({}, 503)
    for _ in range(3):
        with pytest.raises(ProviderError, match="status 503"):
            client.begin(REDIRECT_URI, "")
    assert provider.paths() == [DISCOVERY]
    provider.answers.clear()
    clock.advance(5)
    assert sign_in(client, provider).subject == "user-1"


def test_provider_that_accepts_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https_client, "TIMEOUT_SECONDS", 0.3)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        silent = FakeProvider(issuer=f"http://127.0.0.1:{listener.getsockname()[1]}")
        # The system accepts the connection, and no program answers.
        with pytest.raises(ProviderError):
            OidcClient(settings_for(silent)).begin(REDIRECT_URI, "")
    with pytest.raises(ProviderError):
        OidcClient(settings_for(silent)).begin(REDIRECT_URI, "")


def test_userinfo_is_read_only_if_a_claim_is_missing(provider: FakeProvider) -> None:
    client = OidcClient(settings_for(provider, "groups:ops=*:owner"))
    provider.userinfo = {"groups": ["ops"], "sub": "user-1", "aud": "other"}
    assert sign_in(client, provider, groups=["a"]).claims["groups"] == ["a"]
    assert USERINFO not in provider.paths()
    identity = sign_in(client, provider)
    assert (identity.claims["groups"], identity.claims["aud"]) == (["ops"], CLIENT_ID)
    assert provider.requests[-1][1]["authorization"] == "Bearer at-1"


def test_userinfo_of_another_user_is_rejected(provider: FakeProvider) -> None:
    client = OidcClient(settings_for(provider, "groups:ops=*:owner"))
    provider.userinfo = {"groups": ["ops"], "sub": "user-2"}
    with pytest.raises(ProviderError, match="another user"):
        sign_in(client, provider)


def test_address_of_the_token_is_not_verified_by_userinfo(provider: FakeProvider) -> None:
    client = OidcClient(settings_for(provider, "domain:example.org=default:viewer"))
    provider.userinfo = {"email": "a@other.example", "email_verified": True}
    assert sign_in(client, provider, email="a@example.org").domain == "other.example"


def test_secrets_are_not_logged(client: OidcClient, provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sign_in(client, provider)
    assert CLIENT_SECRET not in caplog.text + repr(client.settings)
    assert "code-1" not in caplog.text
