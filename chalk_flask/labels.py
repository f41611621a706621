"""Labels of credentials and webhooks: one line of text each, for operators."""

from __future__ import annotations

__all__ = ["MAX_LABEL_LENGTH", "LabelError", "parse_label"]

MAX_LABEL_LENGTH = 200
"""Maximum length of a label in characters."""


class LabelError(ValueError):
    """Invalid label; the message quotes it and states the rule."""


def parse_label(text: str, *, required: bool = True) -> str:
    """Return the label without blanks around it. Raises LabelError."""
    label = text.strip()
    if (required and not label) or len(label) > MAX_LABEL_LENGTH or not label.isprintable():
        min_length = 1 if required else 0
        quoted = f"{label[:MAX_LABEL_LENGTH]!r}" + ("..." if len(label) > MAX_LABEL_LENGTH else "")
        raise LabelError(
            f"a label must be one line of {min_length} to {MAX_LABEL_LENGTH} printable characters, not {quoted}"
        )
    return label
