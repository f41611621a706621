"""Permissions of an authenticated caller.

Scopes decide which routes a `Principal` may call; access restrictions decide which rows and fields it can see there.
`policy_for` turns a principal into the `AccessPolicy` that queries and serialization apply.
"""

from chalk_flask.permissions.policy import AccessPolicy, policy_for
from chalk_flask.permissions.principal import Principal

__all__ = ["AccessPolicy", "Principal", "policy_for"]
