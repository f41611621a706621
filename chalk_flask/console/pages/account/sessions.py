"""Own sessions of the administrator."""

from __future__ import annotations

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from chalk_flask.console.context import current
from chalk_flask.console.pages.sign_in.sign_in import sign_out

__all__ = ["end_other_sessions", "end_session"]


def end_session() -> ResponseReturnValue:
    """End one of the own sessions. Ending the current one signs out."""
    console, id_hash = current(), request.form.get("session", "")
    if id_hash == console.session.id_hash:
        return sign_out()
    if id_hash not in {session.id_hash for session in console.services.sessions.list_of(console.administrator.id)}:
        raise NotFound("This session has already ended.")
    console.services.sessions.end(id_hash)
    flash("The session is ended.", "success")
    return redirect(url_for("console.show_account"), 303)


def end_other_sessions() -> ResponseReturnValue:
    """End all own sessions except the current one."""
    console = current()
    console.services.sessions.end_all(console.administrator.id, except_hash=console.session.id_hash)
    flash("All other sessions are ended.", "success")
    return redirect(url_for("console.show_account"), 303)
