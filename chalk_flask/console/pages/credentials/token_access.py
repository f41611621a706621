"""Access of an API token: the number of records in each collection, and a preview of API responses."""

from __future__ import annotations

from typing import Any

import orjson
from flask import current_app, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from chalk_flask.api.public_url import request_base_url
from chalk_flask.console.api_client import ApiClient, preview_principal
from chalk_flask.console.context import current
from chalk_flask.console.pages.credentials.api_tokens import find_token
from chalk_flask.console.widgets.paging import page_of, page_offset
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.times import utc_now

__all__ = ["show_token_access"]

DEMOGRAPHICS = "demographics"
PREVIEW_SIZE = 5
"""Records in a preview."""


def show_token_access(token_id: str) -> ResponseReturnValue:
    """Show the number of records that a token can see, and the response of the API for one collection."""
    token, console = find_token(token_id), current()
    api = ApiClient(current_app, preview_principal(console.services.store, console.administrator, token.principal))
    name = request.args.get("collection", "")
    if name and (name not in RESOURCES or name == DEMOGRAPHICS):
        raise NotFound("The API has no preview of this collection.")
    base_url = request_base_url(request, console.services.settings.public_url)
    return render_template(
        "console/credentials/token_access.html",
        token=token,
        state=token.state_at(utc_now()),
        counts=[_count(api, collection) for collection in RESOURCES],
        collection=name,
        preview=_preview(api, name, base_url) if name else None,
    )


def _count(api: ApiClient, collection: str) -> dict[str, Any]:
    """Return the number of records of a collection that the token can see, or why it can see none."""
    result = api.get(f"/{collection}", {"limit": 1, "fields": "sourcedId"})
    return {
        "name": collection,
        "total": result.total if result.ok else None,
        "problem": "no access" if result.status == 403 else result.message,
        "has_preview": result.ok and result.total > 0 and collection != DEMOGRAPHICS,
    }


def _preview(api: ApiClient, collection: str, base_url: str) -> dict[str, Any]:
    result = api.get(f"/{collection}", {"limit": PREVIEW_SIZE, "offset": page_offset() or None})
    text = orjson.dumps(result.json, option=orjson.OPT_INDENT_2).decode()
    return {
        "text": text,
        "url": f"{base_url}{result.url}",
        "page": page_of(result.total, PREVIEW_SIZE),
        "status": result.status,
    }
