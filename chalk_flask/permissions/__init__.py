"""Permissions of an authenticated caller: a `Principal` goes in, its `AccessPolicy` comes out.

Scopes define the routes that a principal may call. Access restrictions define the rows and fields that it can see
there. `policy_for` is the entry point. Queries and serialization apply the policy that it returns.
"""

from chalk_flask.permissions.policy import AccessPolicy, policy_for
from chalk_flask.permissions.principal import Principal

__all__ = ["AccessPolicy", "Principal", "policy_for"]
