"""Form fields for the access of a credential: scopes, schools, grades, and hidden fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from flask import flash
from wtforms import TextAreaField, ValidationError
from wtforms.validators import InputRequired, Length

from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.credentials.scopes import DEFAULT_CHOICES, SCOPE_CHOICES, chosen_scopes
from chalk_flask.console.pages.roster.catalog import label_of
from chalk_flask.console.widgets.forms import (
    CheckboxesField,
    ConsoleForm,
    TextField,
    select_choices,
    split_lines,
    split_names,
)
from chalk_flask.names import MAX_LABEL_LENGTH, LabelError, parse_label
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.oneroster.vocabularies import GRADES
from chalk_flask.permissions.restrictions import AccessRestrictions, InvalidRestrictionError, check_scopes

__all__ = ["AccessForm", "demographics_note", "flash_unknown_grades"]

MAX_SCHOOLS = 200
"""Maximum number of schools in the picker. Others are entered by id."""
MAX_IDS = 100
"""Maximum number of ids in one text field."""
MAX_TEXT_LENGTH = 20_000

HIDDEN_FIELDS = (
    ("email", "E-mail addresses"),
    ("phone", "Phone numbers"),
    ("sms", "Numbers for text messages"),
    ("identifier", "Local identifiers"),
    ("userIds", "Ids in other systems"),
    ("middleName", "Middle names"),
    ("agents", label_of("agents")),
    ("metadata.*", "Metadata of all records"),
)
"""Fields that the form can redact, each with a label."""


def _require_choice(_: Any, field: Any) -> None:
    """Reject an empty choice. `InputRequired` would make every checkbox required."""
    if not field.data:
        raise ValidationError("Choose at least one.")


class AccessForm(ConsoleForm):
    """Form with a label, scopes and access restrictions. Create it with `AccessForm.prepare`."""

    label = TextField(
        "Label",
        [InputRequired("Enter a label."), Length(max=MAX_LABEL_LENGTH)],
        description="The application that will use it, for example Reading app.",
    )
    scopes = CheckboxesField(
        "What it may do",
        choices=select_choices((choice.name, choice.label) for choice in SCOPE_CHOICES),
        default=list(DEFAULT_CHOICES),
        validators=[_require_choice],
    )
    schools = CheckboxesField("Schools", description="Choose none to allow all schools.")
    grades = CheckboxesField(
        "Grades of students",
        choices=select_choices(zip(GRADES, GRADES, strict=True)),
        description="Choose none to allow all grades.",
    )
    redacted = CheckboxesField("Hidden fields", choices=select_choices(HIDDEN_FIELDS))
    other_orgs = TextAreaField(
        "Further schools or districts, by id", [Length(max=MAX_TEXT_LENGTH)], description="One sourcedId in each line."
    )
    classes = TextAreaField(
        "Only these classes, by id", [Length(max=MAX_TEXT_LENGTH)], description="One sourcedId in each line."
    )
    denied = CheckboxesField("Hidden collections", choices=select_choices(zip(RESOURCES, RESOURCES, strict=True)))
    other_fields = TextField(
        "Further hidden fields", [Length(max=MAX_TEXT_LENGTH)], description="Names separated by commas."
    )

    restrictions: AccessRestrictions
    """Access restrictions, after `validate` returned True."""

    @classmethod
    def prepare(cls, **arguments: Any) -> Self:
        """Return the form of the current request, with the schools of the tenant as choices."""
        form = cls(**arguments)
        form.schools.choices = select_choices(school_choices(form.schools.data or ()))
        return form

    def validate(self, extra_validators: Any = None) -> bool:
        """Return True if all fields are valid. Sets `restrictions`."""
        if not super().validate(extra_validators):
            return False
        return (
            self._parse_label() & self._check_ids("orgs", self.other_orgs) & self._check_ids("classes", self.classes)
            and self._parse_restrictions()
        )

    def granted_scopes(self) -> frozenset[str]:
        """Return the chosen scopes."""
        return chosen_scopes(self.scopes.data or ())

    def _parse_label(self) -> bool:
        try:
            self.label.data = parse_label(self.label.data or "")
        except LabelError:
            self.label.errors = [f"Use one line of at most {MAX_LABEL_LENGTH} printable characters."]
        return not self.label.errors

    def _check_ids(self, collection: str, field: TextAreaField) -> bool:
        """Return True if every id of a field is the id of a record. An unknown id alone would hide all records."""
        ids = split_lines(field.data)
        if len(ids) > MAX_IDS:
            field.errors = [f"Enter at most {MAX_IDS} ids."]
        else:
            unknown = [each for each in ids if not _exists(collection, each)]
            field.errors = [f"There is no record with the id {each!r} in {collection}." for each in unknown]
        return not field.errors

    def _parse_restrictions(self) -> bool:
        others = split_names(self.other_fields.data)
        try:
            self.restrictions = AccessRestrictions.parse(
                [*(self.schools.data or ()), *split_lines(self.other_orgs.data)],
                self.grades.data or (),
                split_lines(self.classes.data),
                self.denied.data or (),
                [*(self.redacted.data or ()), *others],
            )
        except InvalidRestrictionError as error:
            self.other_fields.errors = [f"{error}."]
            return False
        return self._check_scopes()

    def _check_scopes(self) -> bool:
        try:
            check_scopes(self.granted_scopes(), self.restrictions)
        except InvalidRestrictionError as error:
            self.scopes.errors = [format_sentence(error)]
        return not self.scopes.errors


def school_choices(selected: Iterable[str]) -> list[tuple[str, str]]:
    """Return id and name of the schools of the tenant for the picker, by name, including the selected ones."""
    params = {"limit": MAX_SCHOOLS, "sort": "name", "fields": "sourcedId,name", "filter": "status='active'"}
    records = current().api.get("/schools", params).records
    schools = {school["sourcedId"]: school.get("name", "") for school in records}
    others = [each for each in dict.fromkeys(selected) if each not in schools]
    missing = [each for each in others[:MAX_IDS] if _exists("schools", each)]
    named = [(key, f"{name} ({key})" if name else key) for key, name in schools.items()]
    return named + [(key, key) for key in missing]


def flash_unknown_grades(restrictions: AccessRestrictions) -> None:
    """Show a warning on the next page about grades that no active student has. Unknown ids are errors instead."""
    unknown = [grade for grade in sorted(restrictions.grades or ()) if not _has_students(grade)]
    if unknown:
        is_one = len(unknown) == 1
        text = f"grade {unknown[0]}, so it shows" if is_one else f"grades {', '.join(unknown)}, so they show"
        flash(f"No active student has the {text} no student yet.", "warning")


def _has_students(grade: str) -> bool:
    """Return True if an active student has the grade, or if that cannot be read."""
    quoted = grade.replace("'", "''")
    found = current().api.get("/students", {"limit": 1, "filter": f"status='active' AND grades='{quoted}'"})
    return not found.ok or found.total > 0


def demographics_note() -> str:
    """Return a note that credentials of the tenant cannot read demographics yet, or ""."""
    if not current().demographics_denied:
        return ""
    return "The tenant has not opted in to demographics, so the service denies them to every application until it does."


def _exists(collection: str, sourced_id: str) -> bool:
    api = current().api
    return api.get(f"/{collection}/{api.quote_id(sourced_id)}", {"fields": "sourcedId"}).ok
