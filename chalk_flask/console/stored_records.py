"""Records that the API does not serve, such as former states, in the form in which it would serve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from flask import request

from chalk_flask.console.api_client import DEFAULT_ROOT, ApiClient
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.policy import policy_for
from chalk_flask.serialization import DocumentSerializer, RedactionCache, ReferenceLookup

if TYPE_CHECKING:
    from chalk_flask.console.context import ConsoleRequest

__all__ = ["render_stored"]


def render_stored(console: ConsoleRequest, api: ApiClient, name: str, bodies: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return stored bodies of a resource type as the API would serve them to the principal of a client."""
    if not bodies:
        return []
    root_url = request.url_root.rstrip("/") + DEFAULT_ROOT
    with console.services.store.read(console.tenant) as snapshot:
        lookup = ReferenceLookup(snapshot, console.tenant, RedactionCache())
        serializer = DocumentSerializer(RESOURCES[name], root_url, policy_for(api.principal), lookup)
        return [orjson.loads(document) for document in serializer.render_each(bodies)]
