"""Gradebook writes: PUT and DELETE of categories, line items and results.

A JSON body is parsed under limits, `chalk_flask.roster.gradebook` stores it, and the response shows the stored record.
`write_blueprint` is the entry point.
"""

from chalk_flask.api.writes.views import write_blueprint

__all__ = ["write_blueprint"]
