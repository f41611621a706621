"""Log of a service on standard error: one line per message, as text or JSON, in UTC.

`configure_logging` is the entry point. `log_event` writes a message with a name and members, which programs can read.
"""

from chalk_flask.logs.events import LOG_EVENTS, log_event
from chalk_flask.logs.formatters import JsonFormatter
from chalk_flask.logs.prepared_events import PreparedEvent
from chalk_flask.logs.request_ids import REQUEST_ID_HEADER, request_id_of
from chalk_flask.logs.setup import configure_logging
from chalk_flask.logs.slow_statements import log_slow_statements

__all__ = [
    "LOG_EVENTS",
    "REQUEST_ID_HEADER",
    "JsonFormatter",
    "PreparedEvent",
    "configure_logging",
    "log_event",
    "log_slow_statements",
    "request_id_of",
]
