"""GET requests: collections, single objects and the change feed.

A request is parsed into a query, the store returns a page of stored documents, and `DocumentSerializer` renders them
for the caller. `read_blueprint` and `changes_blueprint` are the entry points. `request_classifier`
returns the function by which the server finds the kinds of requests.
"""

from chalk_flask.api.reads.changes import changes_blueprint
from chalk_flask.api.reads.request_kinds import request_classifier
from chalk_flask.api.reads.views import read_blueprint

__all__ = ["changes_blueprint", "read_blueprint", "request_classifier"]
