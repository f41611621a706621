"""Words for states, phases and messages of imports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import render_template

from chalk_flask.console.formatting import format_sentence
from chalk_flask.roster.imports.thresholds import ExceededThreshold, Threshold

__all__ = ["JOB_TITLES", "STATE_BADGES", "phase_label", "reason_text", "render_import_page", "threshold_text"]

STATE_BADGES: Final[Mapping[str, tuple[str, str]]] = {
    "queued": ("Queued", "info"),
    "running": ("Running", "info"),
    "finished": ("Finished", "neutral"),
    "failed": ("Failed", "bad"),
    "canceled": ("Canceled", "neutral"),
    "committed": ("Imported", "good"),
    "unchanged": ("Nothing to do", "good"),
    "held": ("Held for approval", "warning"),
    "refused": ("Rejected", "bad"),
    "checked": ("Checked", "info"),
    "discarded": ("Discarded", "neutral"),
    "expired": ("Hold expired", "neutral"),
    "overtaken": ("Overtaken", "neutral"),
}
"""Label and tone of each state of jobs and import runs."""

HEADLINES: Final[Mapping[str, tuple[str, str]]] = {
    "committed": ("success", "The package was applied."),
    "unchanged": ("success", "There was nothing to do: the roster already equals the package."),
    "held": ("warning", "The package is held. Nothing changes until it is approved."),
    "refused": ("error", "The package was rejected. Nothing was changed."),
    "checked": ("info", "This was a dry run. Nothing was changed."),
    "discarded": ("info", "The package was held, and then discarded. Nothing was changed."),
    "expired": (
        "warning",
        "The package was held for too long. Discard it, and import it again. Nothing was changed.",
    ),
    "overtaken": (
        "warning",
        "The roster has changed since the package was held. Discard the package, and import it again.",
    ),
}
"""Tone and sentence for the result of each state of an import run."""

JOB_TITLES: Final[Mapping[str, str]] = {"import": "Import", "dry_run": "Dry run", "approve": "Approval", "sync": "Sync"}
"""Name of each kind of job."""

_VERBS: Final[Mapping[str, str]] = {"writing": "Write", "downloading": "Download"}
"""Verb for the first word of a phase. The phase of reading a file is its name alone."""


def phase_label(phase: str) -> str:
    """Return a phase of an import or of a sync in words."""
    word, _, rest = phase.partition(" ")
    return f"{_VERBS[word]} {rest}" if word in _VERBS else f"Read {phase}"


def reason_text(exceeded: ExceededThreshold) -> str:
    """Return why a package is held, as a sentence."""
    return format_sentence(exceeded.to_text())


def threshold_text(threshold: Threshold | None) -> str:
    """Return a change threshold in words."""
    return "no threshold" if threshold is None else f"more than {threshold.percent} % and {threshold.rows:,} rows"


def render_import_page(template: str, **values: Any) -> str:
    """Return a page of imports. `values` are the variables of the template."""
    return render_template(
        f"console/imports/{template}",
        badges=STATE_BADGES,
        job_titles=JOB_TITLES,
        headlines=HEADLINES,
        threshold_text=threshold_text,
        **values,
    )
