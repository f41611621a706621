"""Table of the sections that the sidebar of the console shows, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from flask import request, url_for

from chalk_flask.admins.roles import Permission
from chalk_flask.console.context import signed_in

__all__ = ["NAVIGATION", "NavigationEntry", "NavigationGroup", "NavigationLink", "navigation_groups", "section_url"]


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    """Section of the console in the sidebar. `icon` is a name in the macro `icon`.

    `path` is the beginning of the paths whose pages belong to the section, so that its link is marked as current.
    """

    group: str
    label: str
    endpoint: str
    path: str
    permission: Permission
    icon: str


NAVIGATION: tuple[NavigationEntry, ...] = (
    NavigationEntry("Roster", "Dashboard", "show_dashboard", "/", Permission.DASHBOARD_VIEW, "dashboard"),
    NavigationEntry("Roster", "Imports", "list_imports", "/imports", Permission.IMPORTS_VIEW, "import"),
    NavigationEntry("Roster", "Sources", "list_sources", "/sources", Permission.SOURCES_VIEW, "source"),
    NavigationEntry("Roster", "Roster", "browse_roster", "/roster", Permission.ROSTER_VIEW, "people"),
    NavigationEntry("Roster", "Data quality", "show_quality", "/quality", Permission.ROSTER_VIEW, "check"),
    NavigationEntry("Access", "API tokens", "list_tokens", "/settings/api-tokens", Permission.CREDENTIALS_VIEW, "key"),
    NavigationEntry("Access", "OAuth clients", "list_clients", "/settings/clients", Permission.CREDENTIALS_VIEW, "app"),
    NavigationEntry("Access", "Issuers", "list_issuers", "/settings/issuers", Permission.CREDENTIALS_VIEW, "issuer"),
    NavigationEntry("Access", "API explorer", "list_operations", "/explorer", Permission.EXPLORER_USE, "explorer"),
    NavigationEntry("Access", "Webhooks", "list_webhooks", "/webhooks", Permission.WEBHOOKS_VIEW, "webhook"),
    NavigationEntry("Administration", "Audit log", "show_audit_log", "/audit", Permission.AUDIT_VIEW, "audit"),
    NavigationEntry("Administration", "Settings", "show_settings", "/settings", Permission.SETTINGS_MANAGE, "settings"),
    NavigationEntry(
        "Administration",
        "Administrators",
        "list_administrators",
        "/settings/administrators",
        Permission.ADMINISTRATORS_MANAGE,
        "user",
    ),
    NavigationEntry("Administration", "Tenants", "list_tenants", "/tenants", Permission.TENANTS_VIEW, "tenants"),
    NavigationEntry("Administration", "About", "show_about", "/about", Permission.DASHBOARD_VIEW, "info"),
)
"""Sections in the order of the sidebar. Rows of one group follow each other."""


@dataclass(frozen=True, slots=True)
class NavigationLink:
    """Link to a section that the administrator may see."""

    label: str
    href: str
    icon: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class NavigationGroup:
    """Heading in the sidebar with its links."""

    label: str
    links: tuple[NavigationLink, ...]


def navigation_groups() -> Iterator[NavigationGroup]:
    """Yield the groups with the sections that the administrator may see; none before sign-in."""
    console = signed_in()
    if console is None:
        return
    visible = [section for section in NAVIGATION if console.allows(section.permission)]
    current = max((section.path for section in visible if _is_below(section.path)), key=len, default="")
    for label, sections in groupby(visible, lambda section: section.group):
        yield NavigationGroup(label, tuple(_link(section, current) for section in sections))


def section_url(path: str) -> str:
    """Return the URL of the section whose pages begin with a path; "" if the administrator may not see it."""
    console = signed_in()
    if console is None:
        return ""
    visible = (section for section in NAVIGATION if section.path == path and console.allows(section.permission))
    return next((url_for(f"console.{section.endpoint}") for section in visible), "")


def _link(section: NavigationEntry, current: str) -> NavigationLink:
    return NavigationLink(section.label, url_for(f"console.{section.endpoint}"), section.icon, section.path == current)


def _is_below(path: str) -> bool:
    return request.path == path or (path != "/" and request.path.startswith(path + "/"))
