"""Security schemes, and the credentials that operations require."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chalk_flask.openapi.json_schemas import JSONObject
from chalk_flask.permissions.scopes import DESCRIPTIONS, KNOWN

__all__ = ["API_TOKEN", "CLIENT_SECRET", "METRICS_TOKEN", "OAUTH2", "security_of", "security_schemes"]

API_TOKEN, OAUTH2, CLIENT_SECRET, METRICS_TOKEN = "apiToken", "oauth2", "clientSecret", "metricsToken"


def security_schemes(token_url: str) -> Mapping[str, JSONObject]:
    """Return the security schemes by name."""
    return {
        API_TOKEN: {
            "type": "http",
            "scheme": "bearer",
            "description": "API token that the operator creates, which begins with `chk_`, or an access token.",
        },
        OAUTH2: {
            "type": "oauth2",
            "description": "Client id and secret, for which the token endpoint issues an access token.",
            "flows": {
                "clientCredentials": {"tokenUrl": token_url, "scopes": {scope: DESCRIPTIONS[scope] for scope in KNOWN}}
            },
        },
        CLIENT_SECRET: {"type": "http", "scheme": "basic", "description": "Client id and secret."},
        METRICS_TOKEN: {"type": "http", "scheme": "bearer", "description": "Token of the setting `metrics_token`."},
    }


def security_of(scopes: Iterable[str]) -> list[Mapping[str, list[str]]]:
    """Return the alternative credentials of an operation: an API token, or an access token with one of these scopes."""
    return [{API_TOKEN: []}, *({OAUTH2: [scope]} for scope in scopes)]
