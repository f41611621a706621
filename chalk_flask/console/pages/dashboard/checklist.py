"""Checklist of a new tenant: the steps until an application reads its roster."""

from __future__ import annotations

from dataclasses import dataclass

from flask import url_for

from chalk_flask.admins.roles import Permission
from chalk_flask.auth.tokens.record import ApiToken
from chalk_flask.console.context import ConsoleRequest
from chalk_flask.console.navigation import section_url

__all__ = ["ChecklistStep", "checklist"]


@dataclass(frozen=True, slots=True)
class ChecklistStep:
    """Step of the checklist. `href` is "" if the administrator cannot take it. An optional step may stay open."""

    title: str
    text: str
    is_done: bool
    href: str
    link: str
    is_optional: bool = False


def checklist(
    console: ConsoleRequest, *, has_roster: bool, tokens: list[ApiToken], has_client: bool, has_webhook: bool
) -> list[ChecklistStep]:
    """Return the steps of a new tenant in their order. `tokens` include those that have ended."""
    upload = url_for("console.show_upload") if console.allows(Permission.IMPORTS_RUN) else ""
    has_reader = has_client or any(token.last_used for token in tokens)
    return [
        ChecklistStep(
            "Import the roster",
            "Upload the ZIP file that your student information system exports. You can check it first.",
            has_roster,
            upload,
            "Upload a package",
        ),
        ChecklistStep(
            "Create an API token",
            "An application reads the roster with a token, which determines what the application may see.",
            bool(tokens) or has_client,
            section_url("/settings/api-tokens"),
            "API tokens",
        ),
        ChecklistStep(
            "Connect an application",
            "Enter the token and the address of this service in the application. Its first request completes the step.",
            has_reader,
            section_url("/about"),
            "Address of the API",
        ),
        ChecklistStep(
            "Post changes to a webhook",
            "A webhook tells an application about changes at once, instead of at its next request.",
            has_webhook,
            section_url("/webhooks"),
            "Webhooks",
            is_optional=True,
        ),
        ChecklistStep(
            "Protect your account",
            "With two-factor sign-in, a stolen password is not enough to sign in.",
            console.administrator.uses_totp,
            url_for("console.show_two_factor"),
            "Two-factor sign-in",
            is_optional=True,
        ),
    ]
