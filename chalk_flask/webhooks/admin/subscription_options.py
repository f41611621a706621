"""What a webhook may ask for: events, entities, orgs and excluded fields, as an operator names them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from chalk_flask.oneroster.csv.row_parser import BASE
from chalk_flask.oneroster.fields.base import printable
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.outbox.event import ACTIONS, COMPLETED, ENTITIES, SELECTABLE_EVENTS
from chalk_flask.outbox.subscription import OPT_IN_ENTITIES, Mode

__all__ = ["SubscriptionOptions", "WebhookError", "WebhookRequest"]

MOST = 1000
"""Entries of one kind that a webhook has at most."""
LABEL = 200

_NAMES: Mapping[str, str] = {
    name: entity
    for entity, collection in ENTITIES.items()
    for name in (entity, collection, RESOURCES[collection].singular_name)
}
"""The entity type of each name that is understood: academic_session, academicSessions, academicSession."""


class WebhookError(Exception):
    """A webhook cannot be made, changed or used as asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """What an operator asks for. Of an empty kind, everything; `root` stands before hrefs of full bodies."""

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
    """The same in the form that a subscription holds."""

    label: str
    events: frozenset[str]
    entities: frozenset[str]
    orgs: frozenset[str] | None
    excluded: frozenset[str]

    @classmethod
    def from_request(cls, asked: WebhookRequest) -> SubscriptionOptions:
        """What is asked for, checked. Raises WebhookError."""
        for kind in (asked.events, asked.entities, asked.orgs, asked.excluded):
            if len(kind) > MOST:
                raise WebhookError(f"a webhook names {MOST} of a kind at most, not {len(kind)}")
        entities = frozenset(map(_entity, asked.entities))
        events = _events(asked.events, entities)
        excluded = frozenset(map(_excluded, asked.excluded))
        return cls(_label(asked.label), events, entities, _orgs(asked.orgs), excluded)


def _label(text: str) -> str:
    label = text.strip()
    if len(label) > LABEL or not label.isprintable():
        raise WebhookError(f"a label is a line of {LABEL} printable characters at most")
    return label


def _entity(text: str) -> str:
    if found := _NAMES.get(text.strip()):
        return found
    raise WebhookError(f"there is no entity {printable(text)}{_nearest(text, _NAMES)}; there are {', '.join(ENTITIES)}")


def _events(texts: Iterable[str], entities: frozenset[str]) -> frozenset[str]:
    """The events that names and patterns mean; none for all of them."""
    found = frozenset(event for text in texts for event in _matching(text.strip(), entities))
    told = {f"{entity}.{action}" for entity in entities or frozenset(ENTITIES) - OPT_IN_ENTITIES for action in ACTIONS}
    if found and COMPLETED not in found and not found & told:
        raise WebhookError("of the entities that are named there are none of these events: nothing would ever be told")
    return frozenset() if found >= told | {COMPLETED} else found


def _matching(text: str, entities: frozenset[str]) -> list[str]:
    first, dot, rest = text.partition(".")
    name = _NAMES.get(first, first) + dot + rest
    found = [event for event in SELECTABLE_EVENTS if name == "*" or fnmatchcase(event, name)]
    if not found or "[" in name:
        near = _nearest(name, SELECTABLE_EVENTS)
        raise WebhookError(
            f"there is no event {printable(text)}{near}; they are named as in user.created, user.*, *.deleted, {COMPLETED}"
        )
    if name.partition(".")[0] in OPT_IN_ENTITIES - entities:
        raise WebhookError(f"{printable(text)}: of demographics is told who names them: --entity demographics")
    return found


def _orgs(texts: Sequence[str]) -> frozenset[str] | None:
    orgs = frozenset(text.strip() for text in texts)
    if "" in orgs:
        raise WebhookError("an org is named by nothing but blanks: give its sourcedId, or leave the filter out")
    return orgs or None


def _excluded(text: str) -> str:
    """The path as it is kept: `email`, `user.email`, `metadata`, `user.metadata.note`."""
    path = text.strip().removesuffix(".*")
    first, _, rest = path.partition(".")
    entity = _NAMES.get(first) if rest else None
    fields, kinds = (rest, [ENTITIES[entity]]) if entity else (path, list(RESOURCES))
    member, dot, part = fields.partition(".")
    known = {name for kind in kinds for name in RESOURCES[kind].fields}
    if member in BASE:
        raise WebhookError(f"{member} cannot be excluded: without it no receiver can tell what became of a record")
    if member not in known or (dot and (member != "metadata" or not part)):
        near = _nearest(member, known)
        raise WebhookError(
            f"there is no field {printable(text)} to exclude{near}; they are named as in email, user.email, metadata.note"
        )
    return f"{entity}.{fields}" if entity else fields


def _nearest(text: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(text.strip(), list(names), 1)
    return f"; did you mean {near[0]}?" if near else ""
