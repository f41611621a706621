"""Requests that one page makes to the API, so that tests can bound them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, request, request_started

__all__ = ["record_api_paths"]


@contextmanager
def record_api_paths(app: Flask) -> Iterator[list[str]]:
    """Collect the paths of the requests to the API meanwhile, below the API root and in their order."""
    paths: list[str] = []

    def add_path(_: Flask, **__: object) -> None:
        _before, root, path = request.path.partition("/ims/oneroster/v1p1/")
        paths.extend([path] if root else [])

    with request_started.connected_to(add_path, app):
        yield paths
