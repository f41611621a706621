"""Page with all imports: running imports, held imports, and the history."""

from __future__ import annotations

from flask import request
from flask.typing import ResponseReturnValue

from chalk_flask.console.context import current
from chalk_flask.console.pages.imports.summaries import ImportSummary, import_history
from chalk_flask.console.pages.imports.texts import render_import_page
from chalk_flask.console.widgets.paging import PAGE_SIZE, page_of

__all__ = ["list_imports"]

STATES = (
    *("committed", "unchanged", "held", "refused", "checked", "discarded", "expired", "overtaken"),
    *("failed", "canceled"),
)
"""States by which the page can be filtered, in their order."""


def list_imports() -> ResponseReturnValue:
    """Show the imports of the tenant."""
    console = current()
    active = console.services.jobs.list_active(console.tenant)
    imports = import_history().recent(console.tenant)
    state = request.args.get("state", "")
    selected = [summary for summary in imports if state in ("", summary.state)]
    page = page_of(len(selected))
    return render_import_page(
        "list.html",
        active=active,
        held=[summary for summary in imports if summary.state == "held"],
        imports=selected[page.offset : page.offset + PAGE_SIZE],
        count=len(imports),
        page=page,
        state=state,
        states=_present_states(imports),
    )


def _present_states(imports: list[ImportSummary]) -> list[str]:
    """Return the states that occur, in the order of `STATES`."""
    present = {summary.state for summary in imports}
    return [state for state in STATES if state in present]
