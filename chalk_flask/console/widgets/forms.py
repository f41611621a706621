"""Base classes of the console's forms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import request
from flask_wtf import FlaskForm
from wtforms import SelectMultipleField, ValidationError
from wtforms.fields import SelectChoice, StringField
from wtforms.widgets import CheckboxInput, ListWidget

__all__ = ["CheckboxesField", "ConsoleForm", "TextField", "select_choices", "split_lines", "split_names"]

MAX_NAMED_CHOICES, MAX_NAMED_LENGTH = 5, 80
"""Maximum number of unknown choices that a message names, and of characters of each."""


class ConsoleForm(FlaskForm):  # type: ignore[misc]  # the library ships no types
    """Form of a page. The blueprint has verified its CSRF token before the view runs."""

    class Meta(FlaskForm.Meta):  # type: ignore[misc]  # the library ships no types
        """Options of the form."""

        csrf = False

        def wrap_formdata(self, form: Any, formdata: Any) -> Any:
            """Return the fields of the request. Files and JSON are left out, because fields expect text."""
            if formdata is None or hasattr(formdata, "getlist"):
                return formdata
            return request.form if request.method == "POST" else None


class TextField(StringField):  # type: ignore[misc]  # the library ships no types
    """Field for one line of text, without blanks around it."""

    def process_formdata(self, valuelist: list[Any]) -> None:
        """Strip the sent value."""
        super().process_formdata([value.strip() for value in valuelist])


class CheckboxesField(SelectMultipleField):  # type: ignore[misc]  # the library ships no types
    """Field for several choices, each with a checkbox. The message about unknown choices names a few of them."""

    widget = ListWidget(prefix_label=False)
    option_widget = CheckboxInput()

    def pre_validate(self, form: Any) -> None:
        """Raise ValidationError for values that are no choice. A request can contain thousands of them."""
        choices = {choice.value for choice in self.iter_choices()}
        unknown = [value for value in dict.fromkeys(self.data or ()) if value not in choices]
        if unknown:
            named = ", ".join(f"“{value[:MAX_NAMED_LENGTH]}”" for value in unknown[:MAX_NAMED_CHOICES])
            more = f" and {len(unknown) - MAX_NAMED_CHOICES:,} more" if len(unknown) > MAX_NAMED_CHOICES else ""
            raise ValidationError(f"Unknown choice: {named}{more}. Choose from the list.")


def select_choices(pairs: Iterable[tuple[str, str]]) -> list[SelectChoice]:
    """Return the choices of a field from pairs of value and label."""
    return [SelectChoice(value=value, label=label) for value, label in pairs]


def split_lines(text: str | None) -> list[str]:
    """Return the lines of a field, without blanks around them, empty lines and repetitions."""
    return list(dict.fromkeys(line.strip() for line in (text or "").splitlines() if line.strip()))


def split_names(text: str | None) -> list[str]:
    """Return the names of a field, which commas separate."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]
