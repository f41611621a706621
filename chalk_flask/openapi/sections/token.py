"""Section of the token endpoint: OAuth 2 client credentials."""

from __future__ import annotations

from collections.abc import Mapping

from chalk_flask.api.oauth2 import token_endpoint
from chalk_flask.api.oauth2.token_request import CLIENT_CREDENTIALS, FORM_CONTENT_TYPE
from chalk_flask.openapi.json_schemas import JSONObject, schema_ref
from chalk_flask.openapi.responses import TOKEN_STATUSES, error_response, header_refs
from chalk_flask.openapi.sections.section import ApiSection, SectionOperation
from chalk_flask.openapi.security import CLIENT_SECRET

__all__ = ["TOKEN_PATH", "TOKEN_SECTION"]

TOKEN_PATH = token_endpoint.PATHS[0]

_SCHEMAS: Mapping[str, JSONObject] = {
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

_OPERATION: JSONObject = {
    "operationId": "createAccessToken",
    "summary": "Create access token",
    "description": "OAuth 2 client credentials (RFC 6749, section 4.4). The client sends its id and secret, or a"
    " signed assertion.",
    "security": [{CLIENT_SECRET: []}, {}],
    "requestBody": {"required": True, "content": {FORM_CONTENT_TYPE: {"schema": schema_ref("TokenRequest")}}},
    "responses": {
        "200": {
            "description": "Access token.",
            "headers": header_refs(()),
            "content": {"application/json": {"schema": schema_ref("AccessToken")}},
        },
        **{str(status): error_response(status, "TokenError") for status in TOKEN_STATUSES},
    },
}

TOKEN_SECTION = ApiSection(
    "token", "Access tokens of OAuth clients.", _SCHEMAS, (SectionOperation("POST", TOKEN_PATH, _OPERATION),)
)
"""Section with the operation that issues access tokens."""
