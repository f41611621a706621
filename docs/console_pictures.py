"""Table of the pictures of the admin console, in the order of `docs/console/index.md`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PICTURES", "Picture"]


@dataclass(frozen=True, slots=True)
class Picture:
    """Picture of a page: the name of its files, the endpoint of the page, and a title and a sentence for the gallery.

    `path` leads to the page; braces contain names of ids. Without it, `screenshots.VISITS` has a function that opens
    the page.
    """

    group: str
    name: str
    endpoint: str
    title: str
    text: str
    path: str = ""


# One line per picture, so that the code is readable as a table.
# fmt: off
# ruff: noqa: E501
PICTURES: tuple[Picture, ...] = (
    Picture("Sign-in", "setup", "show_setup", "Setup link", "The first start of an empty store prints a link that creates the first operator."),
    Picture("Sign-in", "sign-in", "show_sign_in", "Sign in", "Administrators and operators sign in with name and password."),
    Picture("Sign-in", "code", "show_code_form", "One-time code", "With two-factor sign-in, a code of an app on the phone is the second step."),

    Picture("Dashboard", "dashboard", "show_dashboard", "Dashboard", "The dashboard shows the roster, the last import, held packages, applications and webhooks.", "/"),
    Picture("Dashboard", "dashboard-new-tenant", "show_dashboard", "Dashboard of a new tenant", "A new tenant sees its first steps instead of empty charts."),

    Picture("Imports", "imports", "list_imports", "Imports", "The history lists each import with its state and its numbers of records.", "/imports"),
    Picture("Imports", "upload", "show_upload", "Upload a package", "A package is imported, or checked with a dry run.", "/imports/upload"),
    Picture("Imports", "import-job", "show_import", "Dry run", "The page of a job shows its phases, and its result.", "/imports/{check}"),
    Picture("Imports", "import-held", "show_import", "Held import", "A package that deletes or changes too much waits for a decision.", "/imports/{held}"),
    Picture("Imports", "import-changes", "show_changes", "Changes of a held package", "Each record that the package would delete, change or create is listed.", "/imports/{held}/changes?file=enrollments&outcome=deleted"),
    Picture("Imports", "import-rejected", "show_import", "Rejected import", "The report lists each problem with file, row, column and what to do.", "/imports/{rejected}"),

    Picture("Sources", "sources", "list_sources", "Sources", "The list shows each provider with the outcome of its last sync.", "/sources"),
    Picture("Sources", "source-new", "show_new_source", "Add a source", "The form asks for the provider, its credential and the schedule.", "/sources/new"),
    Picture("Sources", "source", "show_source", "Source", "The page of a source shows the last sync, and starts another one.", "/sources/sis/overview"),
    Picture("Sources", "source-edit", "edit_source", "Change a source", "The secret is required again for another server, or for another kind of credential.", "/sources/sis/edit"),

    Picture("Roster", "roster", "browse_roster", "Roster", "Every collection of the API can be browsed.", "/roster"),
    Picture("Roster", "roster-collection", "browse_collection", "List of records", "Lists have search, filters of the API, sorting and pages.", "/roster/students"),
    Picture("Roster", "roster-person", "show_record", "Person", "The page of a person shows classes, results, agents and the change history.", "/roster/users/user-s-001"),
    Picture("Roster", "roster-class", "show_record", "Class", "The page of a class shows its teachers, students and line items.", "/roster/classes/class-alg1-a"),
    Picture("Roster", "roster-history", "show_record", "Change history", "The page of every record shows what changed, when, and which import changed it.", "/roster/enrollments/enr-home-s6-09"),
    Picture("Roster", "roster-nested", "browse_nested", "Related records", "Lists of related records have a page of their own.", "/roster/classes/class-alg1-a/students"),
    Picture("Roster", "demographics", "browse_demographics", "Demographics", "Demographics are shown after a click that the audit log records.", "/roster/demographics"),

    Picture("Data quality", "quality", "show_quality", "Data quality", "Checks count records that are valid, but probably wrong."),
    Picture("Data quality", "quality-records", "show_quality_records", "Records of a check", "Each count leads to its records.", "{quality_records}"),
    Picture("Data quality", "quality-warnings", "show_warnings", "Warnings of the last import", "Warnings of the same kind are listed together.", "{quality_warnings}"),

    Picture("API tokens", "tokens", "list_tokens", "API tokens", "The list shows prefix, access, expiry and last use of each token.", "/settings/api-tokens"),
    Picture("API tokens", "token-new", "show_new_token", "Generate token", "The form asks in words what the token may do.", "/settings/api-tokens/new"),
    Picture("API tokens", "token", "show_token", "New token", "The value of a new token is shown once, with a command that tries it."),
    Picture("API tokens", "token-access", "show_token_access", "What can this token see?", "Counts and records are those that the application gets.", "/settings/api-tokens/{token}/access?collection=users"),

    Picture("OAuth clients and issuers", "clients", "list_clients", "OAuth clients", "The list shows the access and the last use of each client.", "/settings/clients"),
    Picture("OAuth clients and issuers", "client-new", "show_new_client", "New client", "A client has a secret or a key of its own.", "/settings/clients/new"),
    Picture("OAuth clients and issuers", "client", "show_client", "OAuth client", "The page of a client shows its token endpoint and its access.", "/settings/clients/{client}"),
    Picture("OAuth clients and issuers", "issuers", "list_issuers", "Issuers", "Trusted issuers sign tokens of their own.", "/settings/issuers"),
    Picture("OAuth clients and issuers", "issuer-new", "show_new_issuer", "New issuer", "The form asks for the claims of the tokens and for the keys of the issuer.", "/settings/issuers/new"),
    Picture("OAuth clients and issuers", "issuer", "show_issuer", "Trusted issuer", "The page of an issuer shows its claims, its keys and its access.", "/settings/issuers/{issuer}"),

    Picture("API explorer", "explorer", "list_operations", "API explorer", "Every operation of the API is listed.", "/explorer"),
    Picture("API explorer", "explorer-operation", "show_operation", "Operation", "The form sends a request as a token, or as the administrator.", "/explorer/getAllUsers"),

    Picture("Webhooks", "webhooks", "list_webhooks", "Webhooks", "The list shows the receivers of changes and their state.", "/webhooks"),
    Picture("Webhooks", "webhook-new", "show_new_webhook", "New webhook", "The form asks for the URL, the events and the contents of deliveries.", "/webhooks/new"),
    Picture("Webhooks", "webhook", "show_webhook", "Webhook", "The page of a webhook shows its health and its deliveries.", "/webhooks/{webhook}"),
    Picture("Webhooks", "delivery", "show_delivery", "Delivery", "The page of a delivery shows each attempt with the response, and the body.", "/webhooks/{webhook}/deliveries/{event}"),

    Picture("Administration", "audit", "show_audit_log", "Audit log", "The audit log says who changed what, without personal data.", "/audit"),
    Picture("Administration", "settings", "show_settings", "Settings", "Settings of the tenant explain what they change.", "/settings"),
    Picture("Administration", "administrators", "list_administrators", "Administrators", "Owners manage the administrators of their tenant.", "/settings/administrators"),
    Picture("Administration", "administrator-new", "show_new_administrator", "New administrator", "The password is generated and shown once.", "/settings/administrators/new"),
    Picture("Administration", "administrator", "show_administrator", "Administrator", "The page of an administrator has the role, a new password, and the deletion.", "/settings/administrators/{administrator}"),
    Picture("Administration", "tenants", "list_tenants", "Tenants", "Operators see all tenants, and select the one whose pages they open.", "/tenants"),
    Picture("Administration", "tenant-new", "show_new_tenant", "New tenant", "A tenant is one district, separated from all others.", "/tenants/new"),
    Picture("Administration", "tenant", "show_tenant", "Tenant", "The page of a tenant shows what it contains.", "/tenants/west-valley"),
    Picture("Administration", "about", "show_about", "About", "Version, store and address of the API are on one page.", "/about"),

    Picture("Account", "account", "show_account", "Your account", "Administrators change their password, choose their mail and end their sessions.", "/account"),
    Picture("Account", "two-factor", "show_two_factor", "Two-factor sign-in", "A QR code connects an authenticator app.", "/account/two-factor"),

    Picture("Demo", "demo", "show_demo", "Demo", "The demo has sample packages, and a receiver for webhooks.", "/demo"),
)
# fmt: on
