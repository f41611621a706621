"""Table of the console's pages and actions, with the permission that each requires.

Only this table binds views to paths. `blueprint.py` checks the permissions, and
`tests/console/test_routes_generated.py` tests every row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask.typing import ResponseReturnValue

from chalk_flask.admins.roles import Permission
from chalk_flask.console.pages.account import account_page, mail, password, sessions, theme, two_factor
from chalk_flask.console.pages.audit import audit_log
from chalk_flask.console.pages.credentials import api_tokens, clients, issuers, token_access
from chalk_flask.console.pages.dashboard import dashboard
from chalk_flask.console.pages.demo import views as demo
from chalk_flask.console.pages.explorer import views as explorer
from chalk_flask.console.pages.imports import held_changes, history, jobs, runs, upload
from chalk_flask.console.pages.quality import views as quality
from chalk_flask.console.pages.roster import demographics
from chalk_flask.console.pages.roster import views as roster
from chalk_flask.console.pages.settings import about, administrators, tenant_settings, tenants
from chalk_flask.console.pages.sign_in import oidc, setup, sign_in
from chalk_flask.console.pages.sources import sources
from chalk_flask.console.pages.static_files import serve_static
from chalk_flask.console.pages.webhooks import deliveries, webhooks

__all__ = ["ROUTES", "ConsoleRoute"]


@dataclass(frozen=True, slots=True)
class ConsoleRoute:
    """Page or action of the console.

    Without a permission, the route is open to visitors who are not signed in. The endpoint is the name of the view
    after `console.`, so that each view has one row. If `is_polled`, scripts request it while the administrator may be
    absent, so it does not keep the session alive.
    """

    path: str
    view: Callable[..., ResponseReturnValue]
    permission: Permission | None
    methods: tuple[str, ...]
    is_polled: bool = False

    @property
    def endpoint(self) -> str:
        """Name of the route for `url_for`, without `console.`."""
        return self.view.__name__


def _page(path: str, view: Callable[..., ResponseReturnValue], permission: Permission | None) -> ConsoleRoute:
    """Return the row of a view that changes nothing."""
    return ConsoleRoute(path, view, permission, ("GET",))


def _poll(path: str, view: Callable[..., ResponseReturnValue], permission: Permission) -> ConsoleRoute:
    """Return the row of a view that scripts request again and again."""
    return ConsoleRoute(path, view, permission, ("GET",), is_polled=True)


def _action(path: str, view: Callable[..., ResponseReturnValue], permission: Permission | None) -> ConsoleRoute:
    """Return the row of a view that changes something and then redirects."""
    return ConsoleRoute(path, view, permission, ("POST",))


def _search(path: str, view: Callable[..., ResponseReturnValue], permission: Permission) -> ConsoleRoute:
    """Return the row of a view that redirects to a page, so that its URL does not contain the texts of the form."""
    return ConsoleRoute(path, view, permission, ("POST",))


OWN_ACCOUNT, TOKENS_VIEW, TOKENS_MANAGE = (
    Permission.OWN_ACCOUNT,
    Permission.CREDENTIALS_VIEW,
    Permission.CREDENTIALS_MANAGE,
)

WEBHOOKS_VIEW, WEBHOOKS_OPERATE, WEBHOOKS_MANAGE = (
    Permission.WEBHOOKS_VIEW,
    Permission.WEBHOOKS_OPERATE,
    Permission.WEBHOOKS_MANAGE,
)

ADMINISTRATORS = Permission.ADMINISTRATORS_MANAGE

# One line per route, so that the code is readable as a table.
# fmt: off
ROUTES: tuple[ConsoleRoute, ...] = (
    _page("/static/console/<path:name>", serve_static, None),
    _page("/login", sign_in.show_sign_in, None),
    _action("/login", sign_in.sign_in, None),
    _page("/login/code", sign_in.show_code_form, None),
    _action("/login/code", sign_in.check_code, None),
    _page("/login/oidc", oidc.begin_oidc_sign_in, None),
    _page(oidc.CALLBACK_PATH, oidc.complete_oidc_sign_in, None),
    _action("/logout", sign_in.sign_out, None),
    _page("/setup/<secret>", setup.show_setup, None),
    _action("/setup/<secret>", setup.set_up, None),
    _action("/theme", theme.choose_theme, None),

    _page("/", dashboard.show_dashboard, Permission.DASHBOARD_VIEW),

    _page("/imports", history.list_imports, Permission.IMPORTS_VIEW),
    _page("/imports/upload", upload.show_upload, Permission.IMPORTS_RUN),
    _action("/imports/upload", upload.upload_import, Permission.IMPORTS_RUN),
    _page("/imports/<import_id>", runs.show_import, Permission.IMPORTS_VIEW),
    _page("/imports/<import_id>/problems.csv", runs.download_problems, Permission.IMPORTS_VIEW),
    _poll("/imports/<import_id>/progress", jobs.show_progress, Permission.IMPORTS_VIEW),
    _action("/imports/<import_id>/cancel", jobs.cancel_job, Permission.IMPORTS_RUN),
    _action("/imports/<import_id>/import", jobs.import_checked, Permission.IMPORTS_RUN),
    _page("/imports/<import_id>/changes", held_changes.show_changes, Permission.IMPORTS_VIEW),
    _action("/imports/<import_id>/approve", runs.approve_held, Permission.IMPORTS_DECIDE),
    _action("/imports/<import_id>/discard", runs.discard_held, Permission.IMPORTS_DECIDE),

    _page("/sources", sources.list_sources, Permission.SOURCES_VIEW),
    _page("/sources/new", sources.show_new_source, Permission.SOURCES_MANAGE),
    _action("/sources", sources.add_source, Permission.SOURCES_MANAGE),
    _page("/sources/<source_name>/overview", sources.show_source, Permission.SOURCES_VIEW),
    _page("/sources/<source_name>/edit", sources.edit_source, Permission.SOURCES_MANAGE),
    _action("/sources/<source_name>/edit", sources.change_source, Permission.SOURCES_MANAGE),
    _action("/sources/<source_name>/sync", sources.sync_source_now, Permission.SOURCES_SYNC),
    _action("/sources/<source_name>/remove", sources.remove_source, Permission.SOURCES_MANAGE),

    _page("/account", account_page.show_account, OWN_ACCOUNT),
    _action("/account/password", password.change_password, OWN_ACCOUNT),
    _action("/account/mail", mail.change_mail, OWN_ACCOUNT),
    _page("/account/two-factor", two_factor.show_two_factor, OWN_ACCOUNT),
    _action("/account/two-factor", two_factor.turn_on_two_factor, OWN_ACCOUNT),
    _action("/account/two-factor/recovery-codes", two_factor.create_recovery_codes, OWN_ACCOUNT),
    _action("/account/two-factor/off", two_factor.turn_off_two_factor, OWN_ACCOUNT),
    _action("/account/sessions/end", sessions.end_session, OWN_ACCOUNT),
    _action("/account/sessions/end-others", sessions.end_other_sessions, OWN_ACCOUNT),

    _page("/settings/api-tokens", api_tokens.list_tokens, TOKENS_VIEW),
    _page("/settings/api-tokens/new", api_tokens.show_new_token, TOKENS_MANAGE),
    _action("/settings/api-tokens", api_tokens.create_token, TOKENS_MANAGE),
    _page("/settings/api-tokens/<id:token_id>", api_tokens.show_token, TOKENS_VIEW),
    _page("/settings/api-tokens/<id:token_id>/access", token_access.show_token_access, TOKENS_VIEW),
    _action("/settings/api-tokens/<id:token_id>/rotate", api_tokens.rotate_token, TOKENS_MANAGE),
    _action("/settings/api-tokens/<id:token_id>/revoke", api_tokens.revoke_token, TOKENS_MANAGE),

    _page("/settings/clients", clients.list_clients, TOKENS_VIEW),
    _page("/settings/clients/new", clients.show_new_client, TOKENS_MANAGE),
    _action("/settings/clients", clients.create_client, TOKENS_MANAGE),
    _page("/settings/clients/<client_id>", clients.show_client, TOKENS_VIEW),
    _action("/settings/clients/<client_id>/rotate", clients.rotate_client, TOKENS_MANAGE),
    _action("/settings/clients/<client_id>/revoke", clients.revoke_client, TOKENS_MANAGE),

    _page("/settings/issuers", issuers.list_issuers, TOKENS_VIEW),
    _page("/settings/issuers/new", issuers.show_new_issuer, TOKENS_MANAGE),
    _action("/settings/issuers", issuers.add_issuer, TOKENS_MANAGE),
    _page("/settings/issuers/<issuer_id>", issuers.show_issuer, TOKENS_VIEW),
    _action("/settings/issuers/<issuer_id>/remove", issuers.remove_issuer, TOKENS_MANAGE),

    _page("/roster", roster.browse_roster, Permission.ROSTER_VIEW),
    _page("/roster/demographics", demographics.browse_demographics, Permission.DEMOGRAPHICS_VIEW),
    _action("/roster/demographics", demographics.list_demographics, Permission.DEMOGRAPHICS_VIEW),
    _page("/roster/<collection>", roster.browse_collection, Permission.ROSTER_VIEW),
    _search("/roster/<collection>", roster.search_collection, Permission.ROSTER_VIEW),
    _page("/roster/<collection>/<id:record_id>", roster.show_record, Permission.ROSTER_VIEW),
    _page("/roster/<collection>/<id:record_id>/<nested>", roster.browse_nested, Permission.ROSTER_VIEW),
    _search("/roster/<collection>/<id:record_id>/<nested>", roster.search_nested, Permission.ROSTER_VIEW),
    _action("/demographics/<id:record_id>", demographics.show_demographics, Permission.DEMOGRAPHICS_VIEW),
    _page("/quality", quality.show_quality, Permission.ROSTER_VIEW),
    _poll("/quality/state", quality.show_quality_state, Permission.ROSTER_VIEW),
    _page("/quality/records/<check_id>", quality.show_quality_records, Permission.ROSTER_VIEW),
    _page("/quality/warnings/<code>", quality.show_warnings, Permission.ROSTER_VIEW),

    _page("/explorer", explorer.list_operations, Permission.EXPLORER_USE),
    _page("/explorer/<operation>", explorer.show_operation, Permission.EXPLORER_USE),
    _action("/explorer/<operation>", explorer.try_operation, Permission.EXPLORER_USE),

    _page("/webhooks", webhooks.list_webhooks, WEBHOOKS_VIEW),
    _page("/webhooks/new", webhooks.show_new_webhook, WEBHOOKS_MANAGE),
    _action("/webhooks", webhooks.create_webhook, WEBHOOKS_MANAGE),
    _page("/webhooks/<webhook_id>", webhooks.show_webhook, WEBHOOKS_VIEW),
    _action("/webhooks/<webhook_id>/pause", webhooks.pause_webhook, WEBHOOKS_OPERATE),
    _action("/webhooks/<webhook_id>/resume", webhooks.resume_webhook, WEBHOOKS_OPERATE),
    _action("/webhooks/<webhook_id>/test", webhooks.send_test_event, WEBHOOKS_OPERATE),
    _action("/webhooks/<webhook_id>/rotate", webhooks.rotate_webhook, WEBHOOKS_MANAGE),
    _action("/webhooks/<webhook_id>/replay", webhooks.replay_webhook, WEBHOOKS_OPERATE),
    _action("/webhooks/<webhook_id>/delete", webhooks.delete_webhook, WEBHOOKS_MANAGE),
    _page("/webhooks/<webhook_id>/deliveries/<event_id>", deliveries.show_delivery, WEBHOOKS_VIEW),
    _page("/webhooks/<webhook_id>/deliveries/<event_id>/body", deliveries.download_body, WEBHOOKS_VIEW),
    _action("/webhooks/<webhook_id>/deliveries/<event_id>/replay", deliveries.replay_delivery, WEBHOOKS_OPERATE),

    _page("/audit", audit_log.show_audit_log, Permission.AUDIT_VIEW),
    _search("/audit", audit_log.filter_audit_log, Permission.AUDIT_VIEW),
    _page("/audit/export", audit_log.export_audit_log, Permission.AUDIT_VIEW),

    _page("/settings", tenant_settings.show_settings, Permission.SETTINGS_MANAGE),
    _action("/settings", tenant_settings.change_settings, Permission.SETTINGS_MANAGE),
    _page("/settings/administrators", administrators.list_administrators, ADMINISTRATORS),
    _page("/settings/administrators/new", administrators.show_new_administrator, ADMINISTRATORS),
    _action("/settings/administrators", administrators.create_administrator, ADMINISTRATORS),
    _page("/settings/administrators/<administrator_id>", administrators.show_administrator, ADMINISTRATORS),
    _action("/settings/administrators/<administrator_id>/role", administrators.change_role, ADMINISTRATORS),
    _action("/settings/administrators/<administrator_id>/reset", administrators.reset_administrator, ADMINISTRATORS),
    _action("/settings/administrators/<administrator_id>/delete", administrators.delete_administrator, ADMINISTRATORS),

    _page("/tenants", tenants.list_tenants, Permission.TENANTS_VIEW),
    _page("/tenants/new", tenants.show_new_tenant, Permission.TENANTS_MANAGE),
    _action("/tenants", tenants.create_tenant, Permission.TENANTS_MANAGE),
    _action("/tenants/select", tenants.select_tenant, Permission.TENANTS_VIEW),
    _page("/tenants/<name>", tenants.show_tenant, Permission.TENANTS_VIEW),
    _action("/tenants/<name>/delete", tenants.delete_tenant, Permission.TENANTS_MANAGE),

    _page("/about", about.show_about, Permission.DASHBOARD_VIEW),

    _page("/demo", demo.show_demo, Permission.DASHBOARD_VIEW),
    _page("/demo/packages/<name>", demo.download_sample_package, Permission.DASHBOARD_VIEW),
)
# fmt: on
