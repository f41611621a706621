"""Report of `validate`: JSON object, text, and an HTML page that is complete in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chalk_flask

if TYPE_CHECKING:
    from chalk_flask.roster.imports.report import ImportReport

__all__ = ["to_dict", "to_html", "to_text"]

TEMPLATE = "validation_report.html"


def to_dict(report: ImportReport, profile: str) -> dict[str, Any]:
    """Return the JSON object of a validation."""
    data = report.to_dict()
    return {
        "valid": not report.problems.total,
        "package": data["package"],
        "profile": profile,
        "sha256": data["sha256"],
        "version": chalk_flask.__version__,
        "files": {name: {"mode": file.mode, "rows": file.rows} for name, file in report.files.items()},
        **report.problems.to_dict(),
    }


def to_text(report: ImportReport) -> str:
    """Return the result, the problems and the number of rows as lines of text."""
    from chalk_flask.roster.package.problems import to_one_line

    lines = [f"{to_one_line(report.package)}: {_headline(report)}", *report.problems.to_text()]
    if not report.problems.total:
        lines += [f"{name:18}{file.rows:>11,} rows ({file.mode})" for name, file in report.files.items()]
    return "\n".join(lines)


def to_html(report: ImportReport, profile: str, checked_at: str) -> str:
    """Return an HTML page without scripts and without references to other files.

    It contains the same values as the text. Everything that comes from the package is escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("chalk_flask.cli"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    problems = report.problems
    return environment.get_template(TEMPLATE).render(
        headline=_headline(report),
        report=report,
        profile=profile,
        checked_at=checked_at,
        version=chalk_flask.__version__,
        problems=problems,
        unlisted=problems.total - len(problems.errors),
        counts=sorted(problems.counts.items()),
    )


def _headline(report: ImportReport) -> str:
    from chalk_flask.roster.package.problems import count_of

    errors, warnings = report.problems.total, len(report.problems.warnings)
    suffix = count_of(warnings, "warning") if warnings else "no warnings"
    if not errors:
        return f"Valid, {suffix}."
    return f"Invalid: {count_of(errors, 'error')}, {suffix}."
