"""Base classes of the console's forms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import request
from flask_wtf import FlaskForm
from wtforms import SelectMultipleField
from wtforms.fields import SelectChoice, StringField
from wtforms.widgets import CheckboxInput, ListWidget

__all__ = ["CheckboxesField", "ConsoleForm", "TextField", "select_choices"]


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
    """Field for several choices, each with a checkbox."""

    widget = ListWidget(prefix_label=False)
    option_widget = CheckboxInput()


def select_choices(pairs: Iterable[tuple[str, str]]) -> list[SelectChoice]:
    """Return the choices of a field from pairs of value and label."""
    return [SelectChoice(value=value, label=label) for value, label in pairs]
