"""View of the OpenAPI document, and the blueprint with it and the API reference."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import orjson
from flask import Blueprint, Response, request

from chalk_flask.api.public_url import request_base_url
from chalk_flask.caching import LRUCache
from chalk_flask.openapi.docs_page import add_docs_page
from chalk_flask.settings import Settings
from chalk_flask.web_pages.static_files import StaticFile, static_response

if TYPE_CHECKING:
    from chalk_flask.openapi.sections import ApiSection

__all__ = ["DOCUMENT_PATH", "openapi_blueprint"]

DOCUMENT_PATH = "/openapi.json"

MAX_CACHED_ADDRESSES = 8
"""Maximum number of addresses of the service for which the document is kept."""


def openapi_blueprint(settings: Settings, sections: Callable[[], Sequence[ApiSection]]) -> Blueprint:
    """Return a blueprint with the OpenAPI document and the API reference. See `register` for `sections`."""
    blueprint = Blueprint("openapi", __name__, template_folder="templates")
    document = _Document(settings.max_limit, sections)

    def show_document() -> Response:
        file = document.file_for(request_base_url(request, settings.public_url))
        response = static_response(request, file)
        response.headers["Access-Control-Allow-Origin"] = "*"  # tools in browsers read it from their own address
        return response

    blueprint.add_url_rule(DOCUMENT_PATH, view_func=show_document, provide_automatic_options=False)
    add_docs_page(blueprint)
    return blueprint


class _Document:
    """OpenAPI document as JSON. It is built at the first request, because that takes time. Thread-safe."""

    def __init__(self, max_limit: int, sections: Callable[[], Sequence[ApiSection]]) -> None:
        self._max_limit, self._sections = max_limit, sections
        self._lock = threading.Lock()
        self._template = b""
        self._files: LRUCache[str, StaticFile] = LRUCache(MAX_CACHED_ADDRESSES)

    def file_for(self, base_url: str) -> StaticFile:
        """Return the document with the addresses of an application that is mounted at a URL."""
        file = self._files.get(base_url)
        if file is None:
            file = self._create(base_url)
            self._files.put(base_url, file)
        return file

    def _create(self, base_url: str) -> StaticFile:
        from chalk_flask.openapi.document import build_document  # apispec takes time to import
        from chalk_flask.openapi.sections import BASE_URL

        with self._lock:
            self._template = self._template or orjson.dumps(build_document(self._max_limit, self._sections()))
        content = self._template.replace(BASE_URL.encode(), orjson.dumps(base_url)[1:-1])
        return StaticFile.of(content, "application/json")
