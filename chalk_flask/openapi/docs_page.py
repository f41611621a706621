"""API reference: Swagger UI, from the package flask-swagger-ui, shows the OpenAPI document in browsers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from flask import Blueprint, Response, current_app, request, url_for
from werkzeug.exceptions import NotFound

from chalk_flask.web_pages.headers import PAGE_HEADERS
from chalk_flask.web_pages.static_files import StaticFile, static_response

__all__ = ["DOCS_PATH", "add_docs_page"]

DOCS_PATH = "/docs"

ASSETS: Mapping[str, str] = {
    "swagger-ui.css": "flask_swagger_ui/dist",
    "swagger-ui-bundle.js": "flask_swagger_ui/dist",
    "favicon-32x32.png": "flask_swagger_ui/dist",
    "docs.js": "chalk_flask/openapi/static",
    "docs.css": "chalk_flask/openapi/static",
}
"""Package and folder of each file that the page loads. All are read at the first request of the page."""


def add_docs_page(blueprint: Blueprint) -> None:
    """Add the API reference and its files to the blueprint."""

    def show_docs() -> Response:
        # `render_template` would call the context processors of the console.
        template = current_app.jinja_env.get_template("openapi/docs.html")
        page = template.render(asset_url=_asset_url, url_for=url_for)
        response = Response(page, content_type="text/html; charset=utf-8", headers=PAGE_HEADERS)
        response.headers["Cache-Control"] = "no-cache"
        return response

    def serve_asset(name: str) -> Response:
        if name not in ASSETS:
            raise NotFound
        return static_response(request, _asset(name))

    blueprint.add_url_rule(DOCS_PATH, view_func=show_docs, provide_automatic_options=False)
    blueprint.add_url_rule(f"{DOCS_PATH}/<name>", view_func=serve_asset, provide_automatic_options=False)


def _asset_url(name: str) -> str:
    return url_for("openapi.serve_asset", name=name, v=_asset(name).version)


@cache
def _asset(name: str) -> StaticFile:
    package, _, folder = ASSETS[name].partition("/")
    return StaticFile.read(files(package) / folder / name)
