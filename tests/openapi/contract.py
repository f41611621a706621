"""Requests that Schemathesis generates from the description, and checks of the responses.

`./run contract` sends them to a server with the sample district: `./run contract --backend sqlite --cases 20000`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import schemathesis
import urllib3
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.filters import FilterSet
from schemathesis.schemas import BaseSchema

from chalk_flask.oneroster.fields.base import FilterPath
from chalk_flask.openapi.operations import CHALK_ROOT, OPERATIONS
from tests.conftest import BACKENDS, url_in
from tests.openapi.contract_packages import package_strategy
from tests.openapi.described import operations_of
from tests.support.deliveries import wait_until
from tests.support.paths import ROOT

CONFIG = Path(__file__).with_name("schemathesis.toml")
PHASES = ("examples", "coverage", "fuzzing", "stateful")
MAX_WAIT_SECONDS = 1
"""Maximum of the parameter `wait` in requests, so that a run takes no time for waiting."""
EXAMPLES_PER_ROUND = 100

_VALUES = {"date": "2026-09-01", "datetime": "2026-09-01T00:00:00Z", "number": "5", "boolean": "true", "year": "2027"}
_PREDICATES = ("=", "!=", "<", ">=", "~")

schemathesis.openapi.media_type("application/octet-stream", package_strategy())
schemathesis.openapi.format("binary", package_strategy())


@dataclass
class ContractReport:
    """Number of requests by the class of their status, and one sentence for each failed check."""

    requests: Counter[str] = field(default_factory=Counter)
    requests_by_phase: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, other: ContractReport) -> None:
        """Add the requests and failures of another run."""
        self.requests += other.requests
        self.requests_by_phase += other.requests_by_phase
        self.failures += other.failures

    @property
    def count(self) -> int:
        """Number of requests."""
        return sum(self.requests.values())


def run_contract(
    url: str,
    token: str,
    *,
    max_examples: int,
    seed: int,
    root: str = "",
    operations: Sequence[str] | None = None,
    phases: Sequence[str] = PHASES,
) -> ContractReport:
    """Send requests to the service at a URL. `operations` is None for all. `phases` are those of Schemathesis.

    They are below the API root `root`, or else the addresses of the document. Operations with an address of their own
    are left out below a root.
    """
    config = _config(token, max_examples, seed, url + root if root else None)
    config.projects.default.phases.update(phases=list(phases))
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    described = {each["operationId"]: each for _, _, each in operations_of(schema.raw_schema)}
    chosen = [name for name in operations or described if not (root and "servers" in described[name])]
    included = FilterSet().with_include(operation_id=chosen)
    schema.filter_set = schema.config.operations.filter_set_with(include=included)
    return _run(schema)


def _config(token: str, max_examples: int, seed: int, base_url: str | None) -> SchemathesisConfig:
    config = SchemathesisConfig.from_path(CONFIG)
    config.update(seed=seed, max_failures=None)
    project = config.projects.default
    project.update(headers={"Authorization": f"Bearer {token}"}, base_url=base_url, continue_on_failure=True)
    project.generation.update(max_examples=max_examples, database="none")
    return config


def _run(schema: BaseSchema) -> ContractReport:
    report = ContractReport()
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            report.failures.append(str(event.info if isinstance(event, events.NonFatalError) else event.exception))
        if isinstance(event, events.ScenarioFinished):
            _add(report, event)
    return report


def _add(report: ContractReport, event: events.ScenarioFinished) -> None:
    for interaction in event.recorder.interactions.values():
        status = interaction.response.status_code if interaction.response else 0
        report.requests[f"{status // 100}xx"] += 1
        report.requests_by_phase[event.phase.value] += 1
    for case_id, checks in event.recorder.checks.items():
        for check in checks:
            if check.status is Status.FAILURE and check.failure_info is not None:
                case = event.recorder.cases[case_id].value
                report.failures.append(
                    f"{event.phase.value}: {check.name}: {case.as_curl_command()}: {check.failure_info.failure}"
                )


@schemathesis.hook
def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Replace each filter by a valid one, and shorten the wait for changes."""
    operation = OPERATIONS.get(context.operation.definition.raw.get("operationId", ""))
    if not query or operation is None:
        return query
    if isinstance(query.get("filter"), str) and operation.resource_type is not None:
        query = {**query, "filter": _valid_filter(list(operation.resource_type.filter_paths.values()), query["filter"])}
    if re.fullmatch("[0-9]+", str(query.get("wait", ""))):
        query = {**query, "wait": min(int(query["wait"]), MAX_WAIT_SECONDS)}
    return query


def _valid_filter(paths: Sequence[FilterPath], text: str) -> str:
    """Return a filter with one or two conditions that a generated text chooses, and that contain the text."""
    clauses = [_clause(paths[number % len(paths)], number, text) for number in (len(text), sum(map(ord, text[:3])))]
    return " AND ".join(clauses[: 1 + len(text) % 2])


def _clause(path: FilterPath, number: int, text: str) -> str:
    value = _VALUES.get(path.value_type, text.replace("'", "''"))
    return f"{path.name.replace('*', 'x')}{_PREDICATES[number % len(_PREDICATES)]}'{value}'"


def main() -> None:
    """Run the command `./run contract`. It exits with 1 if a check fails or a response is a server error."""
    parser = argparse.ArgumentParser(prog="./run contract", description=__doc__)
    parser.add_argument("--backend", choices=BACKENDS, default="sqlite")
    parser.add_argument("--cases", type=int, default=20_000, help="minimum number of requests")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, demo_service(options.backend, Path(folder)) as (url, token):
        report = run_until(url, token, options.cases, options.seed)
    for failure in report.failures:
        sys.stdout.write(f"{failure}\n\n")
    sys.stdout.write(
        f"{options.backend}: {report.count} requests, {len(report.failures)} failed checks\n"
        f"by status: {dict(report.requests)}\nby phase: {dict(report.requests_by_phase)}\n"
    )
    sys.exit(bool(report.failures or report.requests["5xx"]))


def run_until(url: str, token: str, cases: int, seed: int) -> ContractReport:
    """Send at least this many requests, below both API roots. Coverage is the same in each round, so it runs once."""
    total = ContractReport()
    for number in count(seed):
        for root in ("", CHALK_ROOT):
            phases = PHASES if number == seed else PHASES[2:]
            total.add(run_contract(url, token, max_examples=EXAMPLES_PER_ROUND, seed=number, root=root, phases=phases))
        if total.count >= cases:
            return total
    raise AssertionError


@contextmanager
def demo_service(backend: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield URL and token of a service with the sample district, a process of its own."""
    command = [sys.executable, "-m", "tests.openapi.contract_server", url_in(folder, backend), str(folder / "data")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url, token = process.stdout.readline().split()
            wait_until(lambda: _is_ready(url))
            yield url, token
        finally:
            process.terminate()


def _is_ready(url: str) -> bool:
    """Return True if `/readyz` is 200: the workers need a moment after the start."""
    response = urllib3.request("GET", f"{url}/readyz", retries=False)
    return response.status == 200


if __name__ == "__main__":
    main()
