"""Validation of a new webhook: events, entities, orgs and excluded fields as the operator names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from chalk_flask.names import LabelError, parse_label, similar_names
from chalk_flask.oneroster.csv.row_parser import BASE_COLUMNS
from chalk_flask.oneroster.fields.base import printable
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.outbox.event import ACTIONS, COMPLETED, ENTITIES, IMPORT_EVENTS, SELECTABLE_EVENTS
from chalk_flask.outbox.subscription import OPT_IN_ENTITIES, Mode

__all__ = ["SubscriptionOptions", "WebhookError", "WebhookRequest"]

MAX_ENTRIES: Final = 1000
"""Upper limit of the events, entities, orgs and excluded fields, each."""

_ENTITY_BY_NAME: Mapping[str, str] = {
    name: entity
    for entity, collection in ENTITIES.items()
    for name in (entity, collection, RESOURCES[collection].singular_name)
}
"""Entity type by each accepted name: academic_session, academicSessions, academicSession."""


class WebhookError(Exception):
    """Error for a webhook that cannot be created, changed or used. The message contains the reason and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """Options of a new webhook. An empty sequence means all; `root` starts the hrefs of full records."""

    url: str
    root: str
    label: str = ""
    events: Sequence[str] = ()
    entities: Sequence[str] = ()
    orgs: Sequence[str] = ()
    excluded: Sequence[str] = ()
    mode: Mode = "batched"
    full: bool = False
    initial: bool = False


@dataclass(frozen=True, slots=True)
class SubscriptionOptions:
    """Validated options in the form that a subscription stores."""

    label: str
    events: frozenset[str]
    entities: frozenset[str]
    orgs: frozenset[str] | None
    excluded: frozenset[str]

    @classmethod
    def from_request(cls, request: WebhookRequest) -> SubscriptionOptions:
        """Validate a request. Raises WebhookError."""
        for entries in (request.events, request.entities, request.orgs, request.excluded):
            if len(entries) > MAX_ENTRIES:
                raise WebhookError(f"too many entries of one kind: {len(entries)}; the maximum is {MAX_ENTRIES}")
        entities = frozenset(map(_parse_entity, request.entities))
        events = _parse_events(request.events, entities)
        orgs = _parse_orgs(request.orgs)
        if orgs and (imports := sorted(events & IMPORT_EVENTS.keys())):
            raise WebhookError(
                f"{', '.join(imports)} cannot be limited to orgs, because an import concerns the whole tenant: create"
                " another webhook for these events"
            )
        excluded = frozenset(map(_parse_excluded_field, request.excluded))
        return cls(_parse_label(request.label), events, entities, orgs, excluded)


def _parse_label(text: str) -> str:
    try:
        return parse_label(text, required=False)
    except LabelError as error:
        raise WebhookError(str(error)) from error


def _parse_entity(text: str) -> str:
    if entity := _ENTITY_BY_NAME.get(text.strip()):
        return entity
    suggestion = _suggestion(text, _ENTITY_BY_NAME)
    raise WebhookError(f"unknown entity {printable(text)}{suggestion}; known entities: {', '.join(ENTITIES)}")


def _parse_events(patterns: Iterable[str], entities: frozenset[str]) -> frozenset[str]:
    """Return the events that match the names and patterns; an empty set means all events."""
    events = frozenset(event for pattern in patterns for event in _matching_events(pattern.strip(), entities))
    possible = {
        f"{entity}.{action}" for entity in entities or frozenset(ENTITIES) - OPT_IN_ENTITIES for action in ACTIONS
    }
    imports = events & IMPORT_EVENTS.keys()
    if events and COMPLETED not in events and not imports and not events & possible:
        raise WebhookError(
            "none of these events can occur for these entities, so the webhook would never get a delivery"
        )
    return frozenset() if events >= possible | {COMPLETED} and not imports else events


def _matching_events(pattern: str, entities: frozenset[str]) -> list[str]:
    first, dot, rest = pattern.partition(".")
    name = _ENTITY_BY_NAME.get(first, first) + dot + rest
    events = [event for event in SELECTABLE_EVENTS if fnmatchcase(event, name)]
    if first == "*":  # events about imports must be selected by name, or as import.*
        events = [event for event in events if event not in IMPORT_EVENTS]
    if not events or "[" in name:
        suggestion = _suggestion(name, SELECTABLE_EVENTS)
        examples = f"user.created, user.*, *.deleted, {COMPLETED}"
        raise WebhookError(f"unknown event {printable(pattern)}{suggestion}; examples: {examples}")
    if name.partition(".")[0] in OPT_IN_ENTITIES - entities:
        raise WebhookError(f"event {printable(pattern)} requires --entity demographics")
    return events


def _parse_orgs(texts: Sequence[str]) -> frozenset[str] | None:
    orgs = frozenset(text.strip() for text in texts)
    if "" in orgs:
        raise WebhookError("an org is blank: give its sourcedId, or omit the org filter")
    return orgs or None


def _parse_excluded_field(text: str) -> str:
    """Return the path in its stored form: `email`, `user.email`, `metadata`, `user.metadata.note`."""
    path = text.strip().removesuffix(".*")
    first, _, rest = path.partition(".")
    entity = _ENTITY_BY_NAME.get(first) if rest else None
    field, collections = (rest, [ENTITIES[entity]]) if entity else (path, list(RESOURCES))
    member, dot, part = field.partition(".")
    members = {name for collection in collections for name in RESOURCES[collection].fields}
    if member in BASE_COLUMNS:
        raise WebhookError(f"{member} cannot be excluded: receivers need it to apply a change")
    if member not in members or (dot and (member != "metadata" or not part)):
        suggestion = _suggestion(member, members)
        examples = "email, user.email, metadata.note"
        raise WebhookError(f"unknown field {printable(text)} to exclude{suggestion}; examples: {examples}")
    return f"{entity}.{field}" if entity else field


def _suggestion(text: str, names: Iterable[str]) -> str:
    matches = similar_names(text, names)
    return f"; did you mean {matches[0]}?" if matches else ""
