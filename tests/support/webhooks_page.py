"""The table of events in docs/webhooks.md, made from the events themselves: `python -m tests.support.webhooks_page`."""

from __future__ import annotations

from chalk_flask.outbox.event import EVENTS
from tests.support.paths import ROOT

__all__ = ["PAGE", "page_with", "table"]

PAGE = ROOT / "docs" / "webhooks.md"
START = "<!-- events: python -m tests.support.webhooks_page writes this table again -->\n"
END = "<!-- end of events -->"


def table() -> str:
    """A row for each event."""
    rows = [f"| `{event}` | {says} |" for event, says in EVENTS.items()]
    return "\n".join(["| Event | |", "| --- | --- |", *rows, ""])


def page_with(page: str) -> str:
    """The page with the table in its place."""
    before, _, rest = page.partition(START)
    return f"{before}{START}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
