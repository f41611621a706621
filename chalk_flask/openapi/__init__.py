"""Description of the API: the OpenAPI 3.1 document `/openapi.json`, and the API reference `/docs`.

It is derived from the tables of routes, the schemas of records, the scopes and the settings. It contains no data of a
tenant, so it requires no credential. `register` is the entry point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from flask import Flask

from chalk_flask.openapi.docs_page import DOCS_PATH
from chalk_flask.openapi.views import DOCUMENT_PATH, openapi_blueprint
from chalk_flask.services import Services

if TYPE_CHECKING:
    from chalk_flask.openapi.sections import ApiSection

__all__ = ["DOCS_PATH", "DOCUMENT_PATH", "register"]


def register(app: Flask, services: Services, sections: Callable[[], Sequence[ApiSection]]) -> None:
    """Add the description to an application that already has the API, unless the operator has turned it off.

    `sections` returns the descriptions of paths of packages above this one. It is called at the first request.
    """
    if services.settings.api_description:
        app.register_blueprint(openapi_blueprint(services.settings, sections))
