"""Table of events in the webhooks page of the documentation: `python -m tests.webhooks.events_table` updates it."""

from __future__ import annotations

from chalk_flask.outbox.event import EVENTS
from tests.support.paths import ROOT

__all__ = ["PAGE", "events_table", "render_page"]

PAGE = ROOT / "docs" / "how-to" / "webhooks.md"
"""Page for developers of receivers; its code blocks are tested too."""
START = "<!-- events: updated by python -m tests.webhooks.events_table -->\n"
END = "<!-- end of events -->"


def events_table() -> str:
    """Return a Markdown table with a row per event type."""
    rows = [f"| `{event_type}` | {description} |" for event_type, description in EVENTS.items()]
    return "\n".join(["| Event | Meaning |", "| --- | --- |", *rows, ""])


def render_page(page: str) -> str:
    """Return the text of the page with the current table."""
    before, _, rest = page.partition(START)
    return f"{before}{START}{events_table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(render_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
