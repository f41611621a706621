"""Signal by which the application leaves a request to the threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["IN_LOOP_KEY", "ThreadRequired", "require_thread"]

IN_LOOP_KEY = "chalk_flask.in_loop"
"""Key of the WSGI environment that is present if the server loop runs the request, so that it must not wait."""


class ThreadRequired(BaseException):
    """Signal that a thread must run the request. It is no error: handlers of errors must not catch it."""


def require_thread(environ: WSGIEnvironment) -> None:
    """Raise ThreadRequired if the server loop runs the request.

    Call this before the request waits, or has its first effect, such as a count or a log message. A thread then runs
    the request again.
    """
    if IN_LOOP_KEY in environ:
        raise ThreadRequired
