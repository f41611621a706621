"""Error 404 of a read: it names the object of the path that was not found."""

from __future__ import annotations

from backends import KEY, Compare, Snapshot
from chalk_flask.api.errors import ApiError
from chalk_flask.api.routes import GRADEBOOK_COLLECTIONS, ReadRoute
from chalk_flask.oneroster.fields.base import printable
from chalk_flask.oneroster.relations import Ids
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.policy import UNRESTRICTED, AccessPolicy
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import ROSTER_CORE, includes_scope

__all__ = ["not_found_error"]


def not_found_error(
    route: ReadRoute, snapshot: Snapshot, ids: Ids, principal: Principal, policy: AccessPolicy
) -> ApiError:
    """Return the error for the first object of the path that was not found.

    Its message contains the reason for an existing object, if the caller has no access restrictions and can read the
    whole roster. All others get the same message for a hidden object as for an unknown one.
    """
    position = next(
        (index for index, parent in enumerate(route.parents) if not parent.exists(snapshot, ids, index, policy.rows)),
        len(ids) - 1,
    )
    collection = _collection(route, position)
    name, shown_id = RESOURCES[collection].singular_name, printable(ids[position])
    is_explained = policy is UNRESTRICTED and includes_scope(principal.scopes, ROSTER_CORE)
    if not is_explained or not snapshot.exists(collection, Compare(KEY, "=", ids[position])):
        return ApiError(404, f"There is no {name} {shown_id}.")
    return ApiError(404, f"The {name} {shown_id} {_reason(route, ids, position)}.")


def _collection(route: ReadRoute, position: int) -> str:
    is_parent = position < len(route.parents)
    return route.parents[position].collection if is_parent else route.resource_type.name


def _reason(route: ReadRoute, ids: Ids, position: int) -> str:
    """Return the reason why an existing object is not found at its position in the path, as the end of a sentence."""
    if position < len(route.parents) and route.parents[position].within:
        return f"does not belong to {printable(ids[position - 1])}"
    if _collection(route, position) in GRADEBOOK_COLLECTIONS:
        return "is deleted"
    return f"is not one of /{route.path.split('/')[1 + 2 * position]}"
