"""Problems of a report: the filtered page of them, and all of them as a CSV file. Reports contain no cell values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from flask import request

from chalk_flask.console.widgets.paging import PAGE_SIZE, Page, page_of
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.package.problems import ImportProblem
from chalk_flask.roster.package.quarantine import to_csv

__all__ = ["KINDS", "ListedProblem", "ProblemPage", "problem_page", "problems_csv"]

KINDS: Final = {"error": "Error", "quarantined": "Quarantined row", "warning": "Warning"}
"""Kinds of problems in words, in the order in which they are listed."""

CSV_HEADER: Final = ("kind", "file", "row", "column", "code", "message", "remedy")


@dataclass(frozen=True, slots=True)
class ListedProblem:
    """Problem with its kind, a key of `KINDS`."""

    kind: str
    problem: ImportProblem

    @property
    def file(self) -> str:
        """Name of the file, or "" for the package itself."""
        return self.problem.file or ""


@dataclass(frozen=True, slots=True)
class ProblemPage:
    """Page of the problems that match the filter of the request.

    `total` is the number of listed problems, without the filter. `errors` is the number of errors, including those
    that are not listed. `files`, `kinds` and `codes` are the choices of the filter.
    """

    page: Page
    problems: list[ListedProblem]
    total: int
    errors: int
    listed_errors: int
    files: list[str]
    kinds: dict[str, str]
    codes: list[str]
    file: str
    kind: str
    code: str


def problem_page(report: ImportReport) -> ProblemPage:
    """Return the page of problems that the parameters `file`, `kind`, `code` and `offset` of the request select."""
    problems = list(_problems(report))
    file, kind, code = (request.args.get(name, "") for name in ("file", "kind", "code"))
    found = [
        each
        for each in problems
        if file in ("", each.file) and kind in ("", each.kind) and code in ("", each.problem.code)
    ]
    page = page_of(len(found))
    present = {each.kind for each in problems}
    return ProblemPage(
        page,
        found[page.offset : page.offset + PAGE_SIZE],
        len(problems),
        report.problems.total,
        len(report.problems.errors),
        sorted({each.file for each in problems if each.file}),
        {name: label for name, label in KINDS.items() if name in present},
        sorted({each.problem.code for each in problems}),
        file,
        kind,
        code,
    )


def problems_csv(report: ImportReport) -> bytes:
    """Return all listed problems as a CSV file."""
    return to_csv([CSV_HEADER, *(_cells(each) for each in _problems(report))])


def _problems(report: ImportReport) -> Iterator[ListedProblem]:
    yield from _of_kind("error", report.problems.errors)
    yield from _of_kind("quarantined", report.quarantined_rows)
    yield from _of_kind("warning", report.problems.warnings)


def _of_kind(kind: str, problems: Iterable[ImportProblem]) -> Iterator[ListedProblem]:
    return (ListedProblem(kind, problem) for problem in problems)


def _cells(each: ListedProblem) -> list[str | int | None]:
    problem = each.problem
    return [KINDS[each.kind], problem.file, problem.row, problem.column, problem.code, problem.message, problem.hint]
