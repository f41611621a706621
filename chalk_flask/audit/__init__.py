"""Audit: who changed what (events in the store) and who read what (access log in files).

`record_event` stores an event within a transaction, `AuditLog` and `LoginLog` afterwards; `AccessLog` records requests.
`read_timeline` merges all of them for `chalk-flask audit`.
"""

from chalk_flask.audit.access_log import AccessLog
from chalk_flask.audit.events import record_event
from chalk_flask.audit.log import AuditLog
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.audit.timeline import read_timeline

__all__ = ["AccessLog", "AuditLog", "LoginLog", "read_timeline", "record_event"]
