"""Security schemes, and the operation that issues access tokens."""

from __future__ import annotations

from collections.abc import Mapping

from chalk_flask.api.oauth2 import token_endpoint
from chalk_flask.api.oauth2.token_request import CLIENT_CREDENTIALS, FORM_CONTENT_TYPE
from chalk_flask.openapi.json_schemas import JSONObject, schema_ref
from chalk_flask.openapi.operations import Operation
from chalk_flask.openapi.responses import TOKEN_STATUSES, error_response, header_refs
from chalk_flask.permissions.scopes import ALL, DESCRIPTIONS

__all__ = ["TOKEN_PATH", "TOKEN_SCHEMAS", "security_of", "security_schemes", "token_operation"]

API_TOKEN, OAUTH2, CLIENT_SECRET = "apiToken", "oauth2", "clientSecret"
TOKEN_PATH = token_endpoint.PATHS[0]

TOKEN_SCHEMAS: Mapping[str, JSONObject] = {
    "AccessToken": {
        "type": "object",
        "required": ["access_token", "token_type", "expires_in", "scope"],
        "properties": {
            "access_token": {"type": "string"},
            "token_type": {"const": "bearer"},
            "expires_in": {"type": "integer", "minimum": 1, "description": "Seconds until the token expires."},
            "scope": {"type": "string", "description": "Scopes of the token, separated by spaces."},
        },
    },
    "TokenRequest": {
        "type": "object",
        "required": ["grant_type"],
        "properties": {
            "grant_type": {"const": CLIENT_CREDENTIALS},
            "scope": {"type": "string", "description": "Requested scopes, separated by spaces. Default: all."},
            "client_id": {"type": "string"},
            "client_secret": {"type": "string", "description": "Secret, unless it is in the header Authorization."},
            "client_assertion": {"type": "string", "description": "Signed JWT of the client (RFC 7523)."},
            "client_assertion_type": {"type": "string"},
        },
    },
    "TokenError": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
    },
}


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
                "clientCredentials": {"tokenUrl": token_url, "scopes": {scope: DESCRIPTIONS[scope] for scope in ALL}}
            },
        },
        CLIENT_SECRET: {"type": "http", "scheme": "basic", "description": "Client id and secret."},
    }


def security_of(operation: Operation) -> list[Mapping[str, list[str]]]:
    """Return the alternative credentials of an operation: an API token, or an access token with one of its scopes."""
    return [{API_TOKEN: []}, *({OAUTH2: [scope]} for scope in operation.scopes)]


def token_operation() -> JSONObject:
    """Return the operation that issues access tokens."""
    return {
        "operationId": "createAccessToken",
        "summary": "Create access token",
        "description": "OAuth 2 client credentials (RFC 6749, section 4.4). The client sends its id and secret, or a"
        " signed assertion.",
        "tags": ["token"],
        "security": [{CLIENT_SECRET: []}, {}],
        "requestBody": {"required": True, "content": {FORM_CONTENT_TYPE: {"schema": schema_ref("TokenRequest")}}},
        "responses": {
            200: {
                "description": "Access token.",
                "headers": header_refs(()),
                "content": {"application/json": {"schema": schema_ref("AccessToken")}},
            },
            **{status: error_response(status, "TokenError") for status in TOKEN_STATUSES},
        },
    }
