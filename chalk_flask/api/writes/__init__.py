"""Gradebook writes: PUT and DELETE of categories, line items and results.

A JSON body of limited size and depth goes in. `chalk_flask.roster.gradebook` stores it, and the response contains the
stored record. `write_blueprint` is the entry point.
"""

from chalk_flask.api.writes.views import write_blueprint

__all__ = ["write_blueprint"]
