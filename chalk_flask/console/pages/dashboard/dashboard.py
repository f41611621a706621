"""First page after sign-in."""

from __future__ import annotations

from flask import redirect, url_for
from flask.typing import ResponseReturnValue

__all__ = ["show_dashboard"]


def show_dashboard() -> ResponseReturnValue:
    """Lead to the API tokens."""
    return redirect(url_for("console.list_tokens"), 303)
