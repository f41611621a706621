"""Links from a response to the operations that continue with its record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chalk_flask.api.routes import ReadRoute
from chalk_flask.oneroster.fields.composites import RefField, RefListField
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.openapi.json_schemas import JSONObject
from chalk_flask.openapi.operations import OPERATIONS, Operation

__all__ = ["links_of_record", "links_of_written_record"]


def links_of_record(resource_type: ResourceType) -> JSONObject:
    """Return the links of a response with one record: to the collections below it, and to its writes."""
    return dict(_links(resource_type, includes_read=False))


def links_of_written_record(resource_type: ResourceType) -> JSONObject:
    """Return the links of a response with a record that was written, which include the read of the record."""
    return dict(_links(resource_type, includes_read=True))


def _links(resource_type: ResourceType, *, includes_read: bool) -> Iterator[tuple[str, JSONObject]]:
    for operation in OPERATIONS.values():
        if _is_single_read(operation) and not (includes_read and operation.resource_type is resource_type):
            continue
        values = _path_values(operation, resource_type)
        if values is not None:
            yield operation.name, {"operationId": operation.name, "parameters": values}


def _is_single_read(operation: Operation) -> bool:
    return isinstance(operation.route, ReadRoute) and not operation.is_collection


def _path_values(operation: Operation, resource_type: ResourceType) -> Mapping[str, str] | None:
    """Return expressions for the ids of a path, or None if a record of the resource type does not have them.

    One of them is the id of the record itself, the others are in its references.
    """
    parameters = operation.path_parameters
    if resource_type.name not in [parameter.collection for parameter in parameters]:
        return None
    pointer = f"$response.body#/{resource_type.singular_name}"
    references = {
        field.target: f"{pointer}/{name}/sourcedId"
        for name, field in resource_type.fields.items()
        if isinstance(field, RefField) and not isinstance(field, RefListField)
    }
    sources = references | {resource_type.name: f"{pointer}/sourcedId"}
    if not all(parameter.collection in sources for parameter in parameters):
        return None
    return {parameter.name: sources[parameter.collection] for parameter in parameters}
