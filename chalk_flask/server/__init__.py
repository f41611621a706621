"""HTTP server: waitress with strict request parsing, unbuffered sending and priority for short requests.

`serve` serves a WSGI application with the settings until the process receives SIGTERM or SIGINT.
"""

from chalk_flask.server.large_bodies import BODY_REJECTED_KEY, BodyLimit, BodyRejection, RequestHead
from chalk_flask.server.server import BindError, local_url, serve

__all__ = ["BODY_REJECTED_KEY", "BindError", "BodyLimit", "BodyRejection", "RequestHead", "local_url", "serve"]
