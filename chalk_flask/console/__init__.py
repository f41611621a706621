"""Admin console: web pages for administrators, rendered on the server.

Pages call the same functions as the command line. Roster records come from the API, in the same process.
`register` is the entry point: it adds the console to an application.
"""

from __future__ import annotations

from flask import Flask, get_flashed_messages, request

from chalk_flask.admins import Permission
from chalk_flask.console import errors
from chalk_flask.console.blueprint import CSRF_CONFIG, console_blueprint, load_session
from chalk_flask.console.context import signed_in
from chalk_flask.console.formatting import FILTERS
from chalk_flask.console.navigation import navigation_groups
from chalk_flask.console.pages.account.theme import current_theme
from chalk_flask.console.pages.demo.views import demo_receiver_url, demo_url
from chalk_flask.console.pages.static_files import static_url
from chalk_flask.console.session_cookie import PageSessionInterface, has_page_session, new_csrf_token
from chalk_flask.console.submissions import new_submission_id
from chalk_flask.services import Services

__all__ = ["register"]


def register(app: Flask, services: Services) -> None:
    """Add the console's routes, page sessions and error pages to an application that already has the API."""
    api_prefixes = tuple(sorted({f"/{rule.rule.split('/')[1]}/" for rule in app.url_map.iter_rules()}))
    app.session_interface = PageSessionInterface(services.settings, api_prefixes, durable=services.store.durable)
    app.config.update(CSRF_CONFIG)
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.jinja_env.filters.update(FILTERS)
    app.jinja_env.globals.update(
        csrf_token=new_csrf_token,
        demo_receiver_url=demo_receiver_url,
        demo_url=demo_url,
        flashes=lambda: get_flashed_messages(with_categories=True),
        navigation_groups=navigation_groups,
        new_submission_id=new_submission_id,
        Permission=Permission,
        signed_in=signed_in,
        static_url=static_url,
    )
    app.context_processor(_page_variables)
    app.register_blueprint(console_blueprint())
    errors.register_for_unknown_paths(app, api_prefixes, load_session)


def _page_variables() -> dict[str, object]:
    """Return the variables of every template. Only pages of the console have templates."""
    usable = has_page_session()
    return {
        "console": signed_in() if usable else None,
        "has_page_session": usable,
        "theme": current_theme(request),
    }
