"""Signal by which the application leaves a request to the threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["IN_LOOP_KEY", "ThreadRequired", "require_thread"]

IN_LOOP_KEY = "chalk_flask.in_loop"
"""Key of the WSGI environment that is present if the server loop runs the request. Then nothing may wait."""


class ThreadRequired(BaseException):
    """Signal that a thread must run the request. It is not an error, so nothing that handles errors must catch it."""


def require_thread(environ: WSGIEnvironment) -> None:
    """Raise ThreadRequired if the server loop runs the request.

    Call this before the request has its first effect, such as a count or a log message: a thread runs it again.
    """
    if IN_LOOP_KEY in environ:
        raise ThreadRequired
