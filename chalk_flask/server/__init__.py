"""HTTP server: waitress with strict parsing and turns for short requests. `serve` is the entry point."""

from chalk_flask.server.server import BindError, serve

__all__ = ["BindError", "serve"]
