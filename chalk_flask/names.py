"""Names that people enter: labels of credentials and webhooks, and suggestions for unknown names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["MAX_LABEL_LENGTH", "LabelError", "parse_label", "similar_names", "suggestion_or_list"]

MAX_LABEL_LENGTH = 200
"""Maximum length of a label in characters."""
MAX_COMPARED_LENGTH = 80
"""Length of the part of an unknown name that is compared with all names."""


class LabelError(ValueError):
    """Invalid label; the message quotes it and states the rule."""


def parse_label(text: str, *, required: bool = True) -> str:
    """Return the label, one line of text, without blanks around it. Raises LabelError."""
    label = text.strip()
    if (required and not label) or len(label) > MAX_LABEL_LENGTH or not label.isprintable():
        min_length = 1 if required else 0
        quoted = f"{label[:MAX_LABEL_LENGTH]!r}" + ("..." if len(label) > MAX_LABEL_LENGTH else "")
        raise LabelError(
            f"a label must be one line of {min_length} to {MAX_LABEL_LENGTH} printable characters, not {quoted}"
        )
    return label


def similar_names(name: str, names: Iterable[str], count: int = 1) -> list[str]:
    """Return at most `count` names that are similar to an unknown one, the most similar first."""
    return get_close_matches(name.strip()[:MAX_COMPARED_LENGTH], sorted(names), count)


def suggestion_or_list(name: str, names: Iterable[str], kind: str) -> str:
    """Return the end of a message about an unknown name: `did you mean a?`, or `the KIND are a, b`."""
    names = list(names)
    if similar := similar_names(name, names):
        return f"did you mean {similar[0]}?"
    return f"the {kind} are {', '.join(names)}"
