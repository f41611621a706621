"""Form for a new webhook: receiver, events in words, and what its deliveries contain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from wtforms import BooleanField, RadioField, TextAreaField
from wtforms.validators import InputRequired, Length, Optional

from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.credentials.access_form import HIDDEN_FIELDS, MAX_TEXT_LENGTH, school_choices
from chalk_flask.console.widgets.forms import (
    CheckboxesField,
    ConsoleForm,
    TextField,
    select_choices,
    split_lines,
    split_names,
)
from chalk_flask.names import MAX_LABEL_LENGTH
from chalk_flask.outbox.event import ACTIONS, COMPLETED, ENTITIES, IMPORT_EVENTS
from chalk_flask.outbox.subscription import OPT_IN_ENTITIES, Subscription
from chalk_flask.tenants.store import TenantStore
from chalk_flask.webhooks import ForbiddenTargetError, SsrfGuard, WebhookRequest

__all__ = ["WebhookForm", "describe_events", "entity_label"]

_ACTION_LABELS = {"created": "Added or restored", "updated": "Changed", "deleted": "Deleted"}
_EVENT_CHOICES = [
    *((f"*.{action}", f"A record was {_ACTION_LABELS[action].lower()}") for action in ACTIONS),
    (COMPLETED, "An import ended"),
]
_DEFAULT_EVENTS = [value for value, _ in _EVENT_CHOICES]
_IMPORT_LABELS = {
    "committed": "The roster was changed by an import (without its changes)",
    "held": "A package is held for approval",
    "rejected": "A package was rejected",
    "overdue": "There was no import for too long",
}
_EVENT_CHOICES += [(event, _IMPORT_LABELS[event.partition(".")[2]]) for event in IMPORT_EVENTS]

_MODES = [
    ("batched", "One delivery for each import, with all its changes"),
    ("per_entity", "One delivery for each changed record"),
]

_ENTITY_LABELS = {"user": "People (users)", "academic_session": "Terms (academic sessions)"}


def entity_label(entity: str) -> str:
    """Return a type of record in words: `Line items` for `line_item`."""
    if entity in _ENTITY_LABELS:
        return _ENTITY_LABELS[entity]
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in ENTITIES[entity])
    return words.capitalize()


class WebhookForm(ConsoleForm):
    """Form for a new webhook. Create it with `WebhookForm.prepare`."""

    url = TextField(
        "URL",
        [InputRequired("Enter the URL of the receiver.")],
        description="It begins with https, and leads to a public address.",
    )
    label = TextField(
        "Label",
        [Optional(), Length(max=MAX_LABEL_LENGTH)],
        description="Name of the receiver, for example Learning platform.",
    )
    events = CheckboxesField("When to send", choices=select_choices(_EVENT_CHOICES), default=_DEFAULT_EVENTS)
    entities = CheckboxesField(
        "Records",
        choices=select_choices((entity, entity_label(entity)) for entity in ENTITIES),
        description="Choose none to send changes of all records except demographics.",
    )
    mode = RadioField("Deliveries", choices=select_choices(_MODES), default="batched")
    full = BooleanField(
        "Include the full records",
        description="Otherwise a delivery contains ids, and the receiver reads the records from the API.",
    )
    initial = BooleanField(
        "Send each record of a first import too", description="Otherwise only the end of a first import is sent."
    )
    schools = CheckboxesField("Only records of these schools", description="Choose none to send those of all schools.")
    other_orgs = TextAreaField(
        "Further schools or districts, by id", [Length(max=MAX_TEXT_LENGTH)], description="One sourcedId in each line."
    )
    excluded = CheckboxesField("Fields to leave out", choices=select_choices(HIDDEN_FIELDS))
    other_fields = TextField(
        "Further fields to leave out",
        [Length(max=MAX_TEXT_LENGTH)],
        description="Names separated by commas, for example user.email, metadata.note.",
    )
    other_events = TextField(
        "Only these events, by name",
        [Length(max=MAX_TEXT_LENGTH)],
        description="Names separated by commas, for example user.created, class.*. They replace the choices above.",
    )

    @classmethod
    def prepare(cls, **arguments: Any) -> Self:
        """Return the form of the current request, with the schools of the tenant as choices."""
        form = cls(**arguments)
        form.schools.choices = select_choices(school_choices(form.schools.data or ()))
        return form

    def check(self, guard: SsrfGuard) -> bool:
        """Return True if all fields are valid and the guard allows the URL."""
        is_valid = self.validate()
        if not self.url.errors:
            try:
                guard.check_url(self.url.data or "")
            except ForbiddenTargetError as error:
                self.url.errors = [format_sentence(error)]
        if not (self.events.data or self.other_events.data or self.events.errors):
            self.events.errors = ["Choose at least one."]
        if OPT_IN_ENTITIES & set(self.entities.data or ()) and not _has_opted_in():
            self.entities.errors = [
                "The tenant has not opted in to demographics. An owner can do that in the settings first."
            ]
        return is_valid and not (self.url.errors or self.events.errors or self.entities.errors)

    def to_request(self, root: str) -> WebhookRequest:
        """Return the request for the webhook. `root` starts the hrefs of full records."""
        return WebhookRequest(
            url=self.url.data or "",
            root=root,
            label=self.label.data or "",
            events=self._chosen_events(),
            entities=self.entities.data or (),
            orgs=[*(self.schools.data or ()), *split_lines(self.other_orgs.data)],
            excluded=[*(self.excluded.data or ()), *split_names(self.other_fields.data)],
            mode=self.mode.data,
            full=bool(self.full.data),
            initial=bool(self.initial.data),
        )

    def _chosen_events(self) -> list[str]:
        if named := split_names(self.other_events.data):
            return named
        chosen: list[str] = self.events.data or []
        return [] if set(chosen) == set(_DEFAULT_EVENTS) else chosen


def describe_events(webhook: Subscription) -> str:
    """Return the events of a webhook in words."""
    if not webhook.events:
        return "all changes, and the end of each import"
    by_entity: dict[str, list[str]] = {}
    for event in sorted(webhook.events - {COMPLETED} - IMPORT_EVENTS.keys()):
        entity, _, action = event.partition(".")
        by_entity.setdefault(action, []).append(entity)
    parts = [_describe_action(action, entities) for action, entities in by_entity.items()]
    parts += ["end of each import"] if COMPLETED in webhook.events else []
    if imports := [event.partition(".")[2] for event in IMPORT_EVENTS if event in webhook.events]:
        parts.append(f"imports that are {', '.join(imports)}")
    return "; ".join(parts)


def _describe_action(action: str, entities: Iterable[str]) -> str:
    names = set(entities)
    is_all = names >= frozenset(ENTITIES) - OPT_IN_ENTITIES
    return f"{action}: {'all records' if is_all else ', '.join(entity_label(name) for name in sorted(names))}"


def _has_opted_in() -> bool:
    console = current()
    return TenantStore(console.services.store).get(console.tenant).demographics
