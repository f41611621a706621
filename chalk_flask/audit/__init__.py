"""Audit: changes as events in the store, and authenticated requests as lines of the access log.

Events and requests go in. `record_event` stores an event within the transaction that causes it; `LoginLog` stores
logins after they happen. `AccessLog` records requests. `read_timeline` returns all of them, merged by time, for
`chalk-flask audit`; `read_latest` returns the newest first, for the console.
"""

from chalk_flask.audit.access_log import AccessLog
from chalk_flask.audit.events import record_event
from chalk_flask.audit.latest import read_latest
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.audit.timeline import read_timeline

__all__ = ["AccessLog", "LoginLog", "read_latest", "read_timeline", "record_event"]
