"""Client of an identity provider: authorization code flow with PKCE (RFC 6749, RFC 7636, OpenID Connect Core 1.0)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote, urlencode

from authlib.common.security import generate_token
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import OAuth2Client

from chalk_flask.auth.jwt.jti_cache import JtiCache
from chalk_flask.oidc.errors import ProviderError, SignInCanceledError, SignInExpiredError
from chalk_flask.oidc.id_token import ExpectedToken, verify_id_token
from chalk_flask.oidc.identity import Identity, identify
from chalk_flask.oidc.oidc_settings import OidcSettings
from chalk_flask.oidc.provider import Provider, ProviderMetadata, request_json
from chalk_flask.shared_state import SharedState
from chalk_flask.times import utc_now

__all__ = ["PENDING_SECONDS", "OidcClient", "PendingOidc"]

PENDING_SECONDS = 600.0
"""Time that a user has to sign in at the provider."""
SECRET_LENGTH = 48
"""Length of the random state, nonce and code verifier, in letters and digits."""

BASIC, POST = "client_secret_basic", "client_secret_post"

_EMAIL_CLAIMS = frozenset({"email", "email_verified"})
_STANDARD_SCOPES = frozenset({"email", "profile"})
_CODE = re.compile(r"[ -~]{1,4096}")
_ACCESS_TOKEN = re.compile(r"[!-~]{1,32768}")

# RFC 6749, 4.1.2.1 and 5.2, and OpenID Connect Core 1.0, 3.1.2.6.
_CANCELED = frozenset(
    {"access_denied", "login_required", "interaction_required", "consent_required", "account_selection_required"}
)
_KNOWN_ERRORS = _CANCELED | {
    *("invalid_request", "invalid_client", "invalid_grant", "invalid_scope", "unauthorized_client"),
    *("unsupported_grant_type", "unsupported_response_type", "server_error", "temporarily_unavailable"),
}


@dataclass(frozen=True, slots=True)
class PendingOidc:
    """Sign-in that a browser has begun, and that it keeps until the response of the provider. `started` is in seconds.

    `path` is the path of the console to show afterwards.
    """

    state: str
    nonce: str = field(repr=False)
    code_verifier: str = field(repr=False)
    redirect_uri: str
    started: float
    path: str

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that the browser keeps."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the sign-in that a stored object describes."""
        return cls(**data)


class OidcClient:
    """Client of the identity provider of these settings. Thread-safe. Methods raise ProviderError."""

    def __init__(
        self,
        settings: OidcSettings,
        provider: Provider | None = None,
        now: Callable[[], datetime] = utc_now,
        shared_state: SharedState | None = None,
    ) -> None:
        self.settings = settings
        self._provider = provider or Provider(settings.issuer)
        self._now = now
        self._used_states = JtiCache(shared_state=shared_state, name="state")

    def begin(self, redirect_uri: str, path: str) -> tuple[str, PendingOidc]:
        """Return the URL at which the user signs in, and what the browser must keep until the response.

        The provider sends the response to `redirect_uri`.
        """
        metadata = self._provider.metadata()
        state, nonce, code_verifier = (generate_token(SECRET_LENGTH) for _ in range(3))
        # Without it, a user with an account that has no access could not choose another one.
        prompt = "select_account" if self.settings.is_google or self.settings.is_microsoft else None
        url, _ = self._oauth_client(metadata).create_authorization_url(
            metadata.authorization_endpoint,
            state,
            code_verifier,
            redirect_uri=redirect_uri,
            nonce=nonce,
            prompt=prompt,
        )
        return url, PendingOidc(state, nonce, code_verifier, redirect_uri, self._now().timestamp(), path)

    def complete(self, pending: PendingOidc, params: Mapping[str, str]) -> Identity:
        """Return the identity of the user, from the parameters of the provider's response to `pending`.

        Raises SignInExpiredError for a response that is late or was used before, and SignInCanceledError.
        """
        self._use(pending, params)
        metadata = self._provider.metadata()
        self._check_issuer(metadata, params)
        _check_error(params)
        tokens = self._fetch_tokens(metadata, pending, params.get("code", ""))
        expected = ExpectedToken(
            issuer=self.settings.issuer,
            client_id=self.settings.client_id,
            nonce=pending.nonce,
            access_token=tokens.get("access_token", ""),
            now=self._now().timestamp(),
        )
        claims = verify_id_token(tokens.get("id_token", ""), expected, self._provider.keys_for)
        return identify(self.settings, self._complete_claims(metadata, claims, expected.access_token))

    def _use(self, pending: PendingOidc, params: Mapping[str, str]) -> None:
        """Raise SignInExpiredError unless this is the first response to the sign-in, and in time."""
        now, expires = self._now().timestamp(), pending.started + PENDING_SECONDS
        if params.get("state") != pending.state:
            raise SignInExpiredError("the state is that of another sign-in")
        if now >= expires:
            raise SignInExpiredError("the response is late")
        if not self._used_states.check_and_remember("oidc", pending.state, expires, now):
            raise SignInExpiredError("the state was used before")

    def _check_issuer(self, metadata: ProviderMetadata, params: Mapping[str, str]) -> None:
        """Raise ProviderError for a response of another provider (RFC 9207)."""
        issuer = params.get("iss", None if metadata.sends_issuer else self.settings.issuer)
        if issuer != self.settings.issuer:
            raise ProviderError("the response has another issuer, or none")

    def _fetch_tokens(self, metadata: ProviderMetadata, pending: PendingOidc, code: str) -> Mapping[str, str]:
        if not _CODE.fullmatch(code):
            raise ProviderError("the response has no valid code")
        try:
            tokens: Mapping[str, str] = self._oauth_client(metadata).fetch_token(
                metadata.token_endpoint,
                grant_type="authorization_code",
                code=code,
                code_verifier=pending.code_verifier,
                redirect_uri=pending.redirect_uri,
                auth=self._client_auth(metadata),
            )
        except OAuth2Error as error:
            raise ProviderError(f"the code was rejected with the error {_known(error.error)}") from error
        except ValueError as error:
            raise ProviderError("the code cannot be sent back") from error
        return tokens

    def _client_auth(self, metadata: ProviderMetadata) -> ClientAuth:
        methods = metadata.auth_methods
        client_id, secret = self.settings.client_id, self.settings.client_secret
        if methods is None or BASIC in methods:
            # RFC 6749, 2.3.1: both are form-encoded, which Authlib does not do.
            return ClientAuth(quote(client_id, safe=""), quote(secret, safe=""), BASIC)
        if POST in methods:
            return ClientAuth(client_id, secret, POST)
        raise ProviderError("the provider supports no client authentication with a secret")

    def _oauth_client(self, metadata: ProviderMetadata) -> OAuth2Client:
        return OAuth2Client(
            _TokenSession(),
            client_id=self.settings.client_id,
            scope=self._scope(metadata),
            code_challenge_method="S256",
        )

    def _scope(self, metadata: ProviderMetadata) -> str:
        """Return the scopes for the claims that are needed. Some providers have one such as `groups`."""
        wanted = _STANDARD_SCOPES
        if metadata.scopes is not None:
            wanted = (wanted | self.settings.claims) & metadata.scopes
        return " ".join(["openid", *sorted(wanted)])

    def _complete_claims(
        self, metadata: ProviderMetadata, claims: Mapping[str, Any], access_token: str
    ) -> Mapping[str, Any]:
        """Return the claims with those of the userinfo endpoint, if the ID token lacks a claim that is needed.

        ID tokens of Google and Microsoft contain all claims that they have.
        """
        needed = self.settings.claims | (_EMAIL_CLAIMS if self.settings.needs_domain else frozenset())
        is_complete = self.settings.is_google or self.settings.is_microsoft or needed <= claims.keys()
        if is_complete or metadata.userinfo_endpoint is None or not _ACCESS_TOKEN.fullmatch(access_token):
            return claims
        headers = {"Accept": "application/json", "Authorization": f"Bearer {access_token}"}
        userinfo = request_json(metadata.userinfo_endpoint, "claims", headers)
        if userinfo.get("sub") != claims["sub"]:
            raise ProviderError("the userinfo response is that of another user")
        # Never combine the address of one source with the verification of the other.
        own = claims if claims.keys() >= _EMAIL_CLAIMS else {n: claims[n] for n in claims.keys() - _EMAIL_CLAIMS}
        return {**userinfo, **own}


class _TokenResponse:
    """Response of the token endpoint, as Authlib reads it. Members that are not text are left out."""

    status_code = 200

    def __init__(self, data: Mapping[str, Any]) -> None:
        names = ("id_token", "access_token", "error")
        self._data = {name: data[name] for name in names if isinstance(data.get(name), str)}

    def json(self) -> dict[str, str]:
        return self._data


class _TokenSession:
    """HTTP session of Authlib's client, with the limits of `send_request`."""

    def post(self, url: str, data: Mapping[str, str], headers: Mapping[str, str], auth: ClientAuth) -> _TokenResponse:
        target, prepared, body = auth.prepare("POST", url, dict(headers), urlencode(data))
        return _TokenResponse(request_json(target, "tokens", prepared, body.encode(), any_status=True))


def _check_error(params: Mapping[str, str]) -> None:
    error = params.get("error")
    if error in _CANCELED:
        raise SignInCanceledError(f"the provider answered with the error {error}")
    if error is not None:
        raise ProviderError(f"the provider answered with the error {_known(error)}")


def _known(error: str) -> str:
    return error if error in _KNOWN_ERRORS else "(unknown)"
