"""HTTP server: waitress with strict request parsing, unbuffered sending and priority for short requests.

`serve` serves a WSGI application with the settings until the process receives SIGTERM or SIGINT.
"""

from chalk_flask.server.large_bodies import BODY_REJECTED_KEY, BodyLimit, BodyRejection, RequestHead
from chalk_flask.server.listener import StandbyListeners
from chalk_flask.server.server import BACKLOG, SHUTDOWN_SECONDS, BindError, listen, local_url, serve

__all__ = [
    "BACKLOG",
    "BODY_REJECTED_KEY",
    "SHUTDOWN_SECONDS",
    "BindError",
    "BodyLimit",
    "BodyRejection",
    "RequestHead",
    "StandbyListeners",
    "listen",
    "local_url",
    "serve",
]
