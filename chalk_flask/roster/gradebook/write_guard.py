"""Checks of a gradebook write against the access policy of the grade tool (interpretations W-08, W-14 and W-15)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from backends import MATCH_ALL, And, Compare, Not, Transaction, Where, and_
from chalk_flask.oneroster.fields.scalars import JSON, printable
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import Reference, ResourceType
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.oneroster.vocabularies import DELETED
from chalk_flask.permissions.policy import AccessPolicy
from chalk_flask.roster.changes import grade_tool_records
from chalk_flask.roster.gradebook.defaults import record_exists
from chalk_flask.roster.gradebook.payload import InvalidPayloadError, Payload
from chalk_flask.serialization import HiddenMemberError, HiddenMembers, HiddenNameError, MetadataNames

__all__ = ["ForbiddenWriteError", "GradeTool", "RecordNotFoundError", "WriteGuard"]


class GradeTool(NamedTuple):
    """Writer of gradebook records: its access policy, and the credential that it uses."""

    policy: AccessPolicy
    credential: str


class RecordNotFoundError(Exception):
    """Error for a record that does not exist or that the grade tool cannot see."""


class ForbiddenWriteError(Exception):
    """Error for a write that needs, or whose effects reach, what the grade tool cannot see."""


class WriteGuard:
    """Checks of one write. Without restrictions they need no query but those for the record and its references."""

    def __init__(self, transaction: Transaction, tool: GradeTool) -> None:
        self._transaction = transaction
        self._policy = tool.policy
        self._credential = tool.credential

    def find_stored(self, resource_type: ResourceType, key: str) -> bytes | None:
        """Return the stored body, deleted or not. Raises RecordNotFoundError if it is not visible (W-08)."""
        name = resource_type.name
        body = self._transaction.get_many(name, [key]).get(key)
        if body is not None and not record_exists(self._transaction, name, key, self._policy.rows(name)):
            raise RecordNotFoundError
        return body

    def complete(
        self, resource_type: ResourceType, hidden: HiddenMembers, payload: Mapping[str, JSON], previous: bytes | None
    ) -> Mapping[str, JSON]:
        """Return the payload with the stored values of members, and the names in metadata, that the tool cannot see.

        Raises RecordNotFoundError if the payload deletes an unknown record; ForbiddenWriteError.
        """
        if previous is None and payload.get("status") in DELETED:
            raise RecordNotFoundError
        try:
            completed = hidden.complete(payload, previous)
        except HiddenMemberError as error:
            raise ForbiddenWriteError(str(error)) from None
        return self._names(resource_type).complete(completed, previous)

    def check_names(self, resource_type: ResourceType, payload: Mapping[str, JSON]) -> None:
        """Raise InvalidPayloadError if metadata names a record that is unknown or hidden (W-04).

        The metadata of a tool that sees all such records may name anything.
        """
        try:
            self._names(resource_type).check(payload)
        except HiddenNameError as error:
            token = RESOURCES[error.target].singular_name
            raise InvalidPayloadError(
                f"{error.path}: there is no {token} with the id {printable(error.name)}"
            ) from None

    def check_references(self, resource_type: ResourceType, data: Payload, kept: frozenset[str]) -> None:
        """Raise InvalidPayloadError for references to unknown records (W-04), ForbiddenWriteError for hidden ones.

        An active record must refer to active records. `kept` are the names of members that stay as stored.
        """
        unknown = []
        active = MATCH_ALL if data["status"] in DELETED else ACTIVE_ONLY
        for reference in resource_type.references:
            key = data.get(reference.name)
            if key is None or self._is_visible(reference, key, active):
                continue
            if reference.name not in kept:
                unknown.append(f"{reference.name}: there is no {reference.field_type.token} with the id {key!r}")
            elif not record_exists(self._transaction, reference.target, key, active):
                raise ForbiddenWriteError(
                    f"This credential cannot write this record, because its restrictions hide {reference.name}, which"
                    " refers to a deleted record"
                )
        if unknown:
            raise InvalidPayloadError("; ".join(unknown))

    def check_results(self, line_item: str) -> None:
        """Raise ForbiddenWriteError if a line item has active results that the tool cannot see."""
        if self._has_hidden("results", Compare("lineItem.sourcedId", "=", line_item)):
            raise ForbiddenWriteError(
                "This line item has results that this credential cannot see, so that it can neither delete the line"
                " item nor give it another class"
            )

    def check_category(self, key: str) -> None:
        """Raise ForbiddenWriteError if line items that the tool cannot see may use the category.

        The error does not depend on such line items, unless the tool itself wrote the category.
        """
        if self._sees_all("lineItems"):
            return
        note = grade_tool_records.find_note(self._transaction, "categories", key)
        is_own = note is not None and grade_tool_records.credential_of(note) == self._credential
        if not is_own or self._has_hidden("lineItems", Compare("category.sourcedId", "=", key)):
            raise ForbiddenWriteError(
                "This credential cannot see all line items, so that it can neither change nor delete a category that"
                " others may use"
            )

    def can_adopt(self, resource_type: ResourceType, key: str) -> bool:
        """Return True if an unchanged record can become a record of the tool: no tool wrote it, and no others use it.

        See W-10 and W-15.
        """
        if grade_tool_records.find_note(self._transaction, resource_type.name, key) is not None:
            return False
        return resource_type.name != "categories" or self._sees_all("lineItems")

    def _names(self, resource_type: ResourceType) -> MetadataNames:
        return MetadataNames(resource_type.name, self._policy, self._transaction)

    def _sees_all(self, collection: str) -> bool:
        return self._policy.rows(collection) is MATCH_ALL

    def _is_visible(self, reference: Reference, key: str, where: Where) -> bool:
        visible = and_(where, self._policy.rows(reference.target))
        return record_exists(self._transaction, reference.target, key, visible)

    def _has_hidden(self, collection: str, where: Where) -> bool:
        if self._sees_all(collection):
            return False
        hidden = Not(self._policy.rows_as_filter(collection))
        return self._transaction.exists(collection, And((where, ACTIVE_ONLY, hidden)))
