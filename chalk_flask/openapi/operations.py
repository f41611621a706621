"""Operations of the API, derived from the tables of routes. The API explorer shows the same ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from chalk_flask.api.reads import changes
from chalk_flask.api.routes import READ_ROUTES, ROOTS, WRITE_ROUTES, ReadRoute, WriteRoute
from chalk_flask.oneroster.fields.composites import RefField
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.permissions.scopes import PREFIX, ROSTER_CORE, SATISFIED_BY, sort_scopes

__all__ = ["CHANGE_FEED", "OPERATIONS", "Operation", "Parameter", "summary_of"]

CHALK_ROOT, STANDARD_ROOT = (root.path for root in ROOTS)
CHANGE_FEED = "getChanges"

_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Parameter:
    """Parameter of an operation: in its path, or in the query string.

    `collection` names the collection of the record whose id is in the path. It is empty for a query parameter.
    """

    name: str
    help: str
    example: str = ""
    collection: str = ""

    @property
    def is_in_path(self) -> bool:
        """True if the parameter is an id in the path."""
        return bool(self.collection)


@dataclass(frozen=True, slots=True)
class Operation:
    """Operation of the API. `resource_type` and `route` are None for the change feed.

    `group` is the collection or feed under which pages show it. `roots` are the paths of the API roots that serve it.
    """

    name: str
    method: str
    path: str
    group: str
    scopes: tuple[str, ...]
    resource_type: ResourceType | None
    parameters: tuple[Parameter, ...]
    route: ReadRoute | WriteRoute | None = None
    roots: tuple[str, ...] = (STANDARD_ROOT, CHALK_ROOT)

    @property
    def is_write(self) -> bool:
        """True if the operation changes the gradebook."""
        return self.method != "GET"

    @property
    def is_collection(self) -> bool:
        """True if the operation reads several records."""
        return self.method == "GET" and not self.path.endswith("}")

    @property
    def has_limit(self) -> bool:
        """True if the response has as many records as the parameter `limit` allows."""
        return any(parameter.name == "limit" for parameter in self.parameters)

    @property
    def path_parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the path, in its order."""
        return tuple(parameter for parameter in self.parameters if parameter.is_in_path)

    @property
    def query_parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the query string."""
        return tuple(parameter for parameter in self.parameters if not parameter.is_in_path)

    @property
    def scope_names(self) -> str:
        """Short names of the scopes of which the caller needs one."""
        return " or ".join(scope.removeprefix(PREFIX) for scope in self.scopes)

    @property
    def example_body(self) -> str:
        """JSON with the required fields of a record, for an operation with a body."""
        if self.method != "PUT" or self.resource_type is None:
            return ""
        fields = self.resource_type.fields.items()
        record: dict[str, Any] = {
            name: {"sourcedId": ""} if isinstance(field, RefField) else "" for name, field in fields if field.required
        }
        return orjson.dumps({self.resource_type.singular_name: record}, option=orjson.OPT_INDENT_2).decode()


_QUERY_PARAMETERS = (
    Parameter("limit", "Records in the response", "10"),
    Parameter("offset", "Records to skip"),
    Parameter("sort", "Field to sort by"),
    Parameter("orderBy", "asc or desc"),
    Parameter("filter", "One or two conditions, such as status='active'"),
)
_FIELDS = Parameter("fields", "Names of the fields to return, with commas")
_FEED_PARAMETERS = (
    Parameter("since", "Sequence number after which changes are returned, or latest", "0"),
    Parameter("limit", "Changes in the response", "10"),
    Parameter("include", "records or ids"),
)


def summary_of(operation: str) -> str:
    """Return the name of an operation as a phrase, such as `Get all academic sessions`."""
    first, *others = _WORD_START.split(operation)
    return " ".join([first.title(), *map(str.lower, others)])


def _path_parameters(path: str, collections: tuple[str, ...]) -> tuple[Parameter, ...]:
    names = _PATH_PARAMETER.findall(path)
    return tuple(Parameter(name, "sourcedId", "", each) for name, each in zip(names, collections, strict=True))


def _read_operation(route: ReadRoute) -> Operation:
    query = (*_QUERY_PARAMETERS, _FIELDS) if route.is_collection else (_FIELDS,)
    own_id = () if route.is_collection else (route.resource_type.name,)
    collections = (*(parent.collection for parent in route.parents), *own_id)
    return Operation(
        route.operation,
        "GET",
        route.path,
        route.resource_type.name,
        tuple(sort_scopes(SATISFIED_BY[route.scope])),
        route.resource_type,
        (*_path_parameters(route.path, collections), *query),
        route,
    )


def _write_operation(route: WriteRoute) -> Operation:
    return Operation(
        route.operation,
        route.method,
        route.path,
        route.resource_type.name,
        (route.scope,),
        route.resource_type,
        _path_parameters(route.path, (route.resource_type.name,)),
        route,
    )


_CHANGE_FEED_OPERATION = Operation(
    CHANGE_FEED,
    "GET",
    changes.PATH.removeprefix(CHALK_ROOT),
    "changes",
    tuple(sort_scopes(SATISFIED_BY[ROSTER_CORE])),
    None,
    _FEED_PARAMETERS,
    roots=(CHALK_ROOT,),
)

OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in chain(
        map(_read_operation, READ_ROUTES), map(_write_operation, WRITE_ROUTES), [_CHANGE_FEED_OPERATION]
    )
}
"""Operations by name, in the order of the tables."""
