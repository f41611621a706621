"""The dashboard, which is the first page after sign-in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from flask import current_app, render_template
from flask.typing import ResponseReturnValue

from chalk_flask.auth.jwt.issuers import IssuerStore
from chalk_flask.console.context import ConsoleRequest, current, current_services
from chalk_flask.console.formatting import format_count
from chalk_flask.console.navigation import section_url
from chalk_flask.console.pages.credentials.api_tokens import EXPIRY_NOTICE_DAYS, expires_soon
from chalk_flask.console.pages.dashboard.checklist import checklist
from chalk_flask.console.pages.dashboard.request_counts import AppRequests, RequestCounter, RequestCounts
from chalk_flask.console.pages.dashboard.roster_counts import COUNTED, counted_url
from chalk_flask.console.pages.dashboard.store_size import StoreSize, store_size
from chalk_flask.console.pages.imports.summaries import ImportSummary, import_history
from chalk_flask.console.pages.imports.texts import JOB_TITLES, STATE_BADGES
from chalk_flask.console.pages.webhooks.webhooks import webhook_name
from chalk_flask.console.widgets.charts import BarChart, bar_chart
from chalk_flask.outbox.subscription import Subscription, load_subscriptions
from chalk_flask.roster.counts import RosterCounter
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import utc_now
from chalk_flask.webhooks import MAX_EXACT_COUNT, count_waiting

__all__ = ["show_dashboard"]

CHART_DAYS: Final = 30
MAX_ROSTER_AGE: Final = timedelta(days=3)
"""Age from which the dashboard marks a roster as old. Most districts import daily, but not at weekends."""
MAX_CHART_APPS: Final = 2
"""Applications with a separate series in the chart. The series `Others` is the sum of the rest."""
MAX_LISTED_APPS: Final = 8

CREDENTIAL_TYPES: Final = {
    "token": "API token",
    "client": "OAuth client",
    "issuer": "Trusted issuer",
}

_EXTENSION: Final = "chalk_dashboard"


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters of the application, with their caches."""

    roster: RosterCounter
    requests: RequestCounter


@dataclass(frozen=True, slots=True)
class WebhookHealth:
    """Webhook with the number of its deliveries that wait to be sent, as text."""

    webhook: Subscription
    waiting: str

    @property
    def label(self) -> str:
        """Label of the webhook, or the host of its receiver."""
        return webhook_name(self.webhook)


def show_dashboard() -> ResponseReturnValue:
    """Show the dashboard of the tenant."""
    console, now = current(), utc_now()
    imports = [summary for summary in import_history().recent(console.tenant) if not summary.is_dry_run]
    counts = _counters().roster.count(console.tenant)
    requests = _counters().requests.count(console.tenant)
    tokens = list(console.services.tokens.list(console.tenant))
    labels = _app_labels(console)
    webhooks = _webhooks(console)
    clients = console.services.clients.list(console.tenant)
    steps = checklist(
        console,
        has_roster=not counts.is_empty,
        tokens=tokens,
        has_client=bool(clients),
        has_webhook=bool(webhooks),
    )
    return render_template(
        "console/dashboard/dashboard.html",
        badges=STATE_BADGES,
        job_titles=JOB_TITLES,
        counts=counts,
        counted_url=counted_url,
        active_jobs=console.services.jobs.list_active(console.tenant),
        held=[summary for summary in imports if summary.state == "held"],
        last_import=imports[0] if imports else None,
        last_applied=_last_applied(imports),
        is_old=_is_old(imports, now),
        changes=_changes_chart(imports, now.date()) if imports else None,
        requests=requests,
        requests_chart=_requests_chart(requests, labels) if requests.apps else None,
        apps=_app_rows(requests, labels),
        webhooks=webhooks,
        expiring=sorted((token for token in tokens if expires_soon(token, now)), key=lambda token: str(token.expires)),
        expiry_notice_days=EXPIRY_NOTICE_DAYS,
        size=_size(console),
        steps=steps if any(not step.is_done and not step.is_optional for step in steps) else [],
        section_url=section_url,
    )


def _counters() -> Counters:
    found: Any = current_app.extensions.get(_EXTENSION)
    if found is None:
        services = current_services()
        folder = Path(services.settings.data).absolute() / "reads"
        found = Counters(RosterCounter(services.store, COUNTED), RequestCounter(folder))
        current_app.extensions[_EXTENSION] = found
    counters: Counters = found
    return counters


def _last_applied(imports: Sequence[ImportSummary]) -> ImportSummary | None:
    """Return the last import after which the roster was equal to its package."""
    return next((summary for summary in imports if summary.is_applied), None)


def _is_old(imports: Sequence[ImportSummary], now: datetime) -> bool:
    applied = _last_applied(imports)
    return applied is not None and applied.day < (now - MAX_ROSTER_AGE).date().isoformat()


def _changes_chart(imports: Sequence[ImportSummary], today: date) -> BarChart:
    days = [today - timedelta(days=age) for age in reversed(range(CHART_DAYS))]
    series: dict[str, Counter[str]] = {"Created": Counter(), "Updated": Counter(), "Deleted": Counter()}
    for summary in imports:
        if summary.state == "committed":
            series["Created"][summary.day] += summary.total["created"] + summary.total["revived"]
            series["Updated"][summary.day] += summary.total["updated"]
            series["Deleted"][summary.day] += summary.total["deleted"]
    values = {name: [counts[day.isoformat()] for day in days] for name, counts in series.items()}
    return bar_chart("Records changed by imports, last 30 days", [_day_label(day) for day in days], values)


def _requests_chart(requests: RequestCounts, labels: Mapping[tuple[str, str], str]) -> BarChart:
    shown, others = requests.apps[:MAX_CHART_APPS], requests.apps[MAX_CHART_APPS:]
    series = {_app_label(app, labels): app.by_day for app in shown}
    if others:
        series["Others"] = [sum(numbers) for numbers in zip(*(app.by_day for app in others), strict=True)]
    return bar_chart("API requests by application, last 7 days", [_day_label(day) for day in requests.days], series)


def _day_label(day: date) -> str:
    return f"{day:%b} {day.day}"


def _app_rows(requests: RequestCounts, labels: Mapping[tuple[str, str], str]) -> list[dict[str, Any]]:
    return [
        {
            "label": _app_label(app, labels),
            "kind": CREDENTIAL_TYPES.get(app.credential_type, app.credential_type),
            "today": app.by_day[-1],
            "total": app.total,
        }
        for app in requests.apps[:MAX_LISTED_APPS]
    ]


def _app_labels(console: ConsoleRequest) -> Mapping[tuple[str, str], str]:
    """Return the labels of credentials by type and id, also of revoked ones."""
    services, tenant = console.services, console.tenant
    labels = {("token", token.id): token.label for token in services.tokens.list(tenant)}
    labels |= {("client", client.id): client.label for client in services.clients.list(tenant)}
    labels |= {("issuer", issuer.id): issuer.label for issuer in IssuerStore(services.store).list(tenant)}
    return {key: label for key, label in labels.items() if label}


def _app_label(app: AppRequests, labels: Mapping[tuple[str, str], str]) -> str:
    return labels.get((app.credential_type, app.credential_id), app.credential_id)


def _webhooks(console: ConsoleRequest) -> list[WebhookHealth]:
    with console.services.store.read(console.tenant) as snapshot:
        return [
            WebhookHealth(webhook, format_count(count_waiting(snapshot, webhook.id), MAX_EXACT_COUNT))
            for webhook in load_subscriptions(snapshot)
        ]


def _size(console: ConsoleRequest) -> StoreSize | None:
    """Return the size of the store; None if it would reveal data of other tenants and the reader is no operator."""
    services = console.services
    if not console.administrator.is_operator and len(TenantStore(services.store).list()) > 1:
        return None
    return store_size(services.settings.storage)
