"""Pages of the API explorer: the list of operations, and one operation with a form that sends its request."""

from __future__ import annotations

from itertools import groupby
from typing import Any
from urllib.parse import urlencode

import orjson
from flask import abort, current_app, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden

from chalk_flask.admins.roles import Permission
from chalk_flask.auth.tokens.record import ApiToken
from chalk_flask.console.api_client import ApiClient, ApiResult, preview_principal
from chalk_flask.console.context import ConsoleRequest, current
from chalk_flask.console.pages.roster.catalog import DEMOGRAPHICS as DEMOGRAPHICS_COLLECTION
from chalk_flask.console.pages.roster.catalog import label_of
from chalk_flask.console.pages.roster.demographics import record_demographics_view
from chalk_flask.console.widgets.curl import curl_command
from chalk_flask.openapi.operations import CHANGE_FEED, OPERATIONS, Operation
from chalk_flask.permissions.scopes import DEMOGRAPHICS
from chalk_flask.times import utc_now

__all__ = ["list_operations", "show_operation", "try_operation"]

MAX_RECORDS = 200
"""Maximum `limit` of a request that the explorer sends, because the response is in memory."""
MAX_SHOWN_LENGTH = 12_000
"""Maximum length in characters of the body that the page shows."""
MAX_PARAMETER_LENGTH = 4000
MAX_BODY_LENGTH = 200_000
MAX_ID_LENGTH = 255
"""Maximum length in characters of an id in the audit log; no record has a longer one."""


def list_operations() -> ResponseReturnValue:
    """Show every operation, by the records that it reads or writes."""
    by_group = sorted(OPERATIONS.values(), key=lambda operation: operation.group)
    groups = [(label_of(name), list(members)) for name, members in groupby(by_group, lambda member: member.group)]
    return render_template("console/explorer/index.html", groups=groups)


def show_operation(operation: str) -> ResponseReturnValue:
    """Show an operation with its form. The URL never contains its parameters, because they may be personal data."""
    return _operation_page(_find(operation), {}, None)


def try_operation(operation: str) -> ResponseReturnValue:
    """Send the request of the form as the chosen token, and show the response below the form."""
    found = _find(operation)
    console, values = current(), request.form.to_dict()
    if found.is_write and (problem := _write_problem(console, values)):
        return _operation_page(found, values, None, problem), 422
    missing = [each.name for each in found.parameters if each.is_in_path and not values.get(each.name, "").strip()]
    if missing:
        return _operation_page(found, values, None, f"{', '.join(missing)} is missing: enter an id."), 422
    client = _client(console, values.get("token", ""))
    if DEMOGRAPHICS in client.principal.scopes and _reads_demographics(found):
        record_demographics_view(console, operation=found.name, record=_record_of(found, values))
    result = client.send(found.method, _path(found, values), _query(found, values), _body(found, values))
    return _operation_page(found, values, result)


def _find(name: str) -> Operation:
    return OPERATIONS.get(name) or abort(404)


def _write_problem(console: ConsoleRequest, values: dict[str, str]) -> str:
    """Return why a write is not sent, or "". Raises Forbidden without the permission to manage credentials."""
    if not console.allows(Permission.CREDENTIALS_MANAGE):
        raise Forbidden(f"Your role, {console.administrator.role}, cannot send writes. Ask an owner.")
    if values.get("confirmed") != "yes":
        return "This request changes the gradebook. Confirm it first."
    return "" if len(values.get("body", "")) <= MAX_BODY_LENGTH else "The body is too long for this page."


def _reads_demographics(operation: Operation) -> bool:
    name = operation.resource_type.name if operation.resource_type else ""
    return name == DEMOGRAPHICS_COLLECTION or operation.name == CHANGE_FEED


def _record_of(operation: Operation, values: dict[str, str]) -> str | None:
    """Return the id of the record that an operation reads, or None if it reads a collection."""
    names = [one.name for one in operation.parameters if one.is_in_path]
    return values[names[-1]].strip()[:MAX_ID_LENGTH] if names else None


def _client(console: ConsoleRequest, token_id: str) -> ApiClient:
    """Return the client of a token of the tenant, or that of the administrator for an empty id."""
    if not token_id:
        return console.api
    token = next((token for token in _tokens(console) if token.id == token_id), None) or abort(404)
    return ApiClient(current_app, preview_principal(console.services.store, console.administrator, token.principal))


def _tokens(console: ConsoleRequest) -> list[ApiToken]:
    """Return the valid tokens of the tenant."""
    now = utc_now()
    return [token for token in console.services.tokens.list(console.tenant) if token.is_valid_at(now)]


def _path(operation: Operation, values: dict[str, str]) -> str:
    path = operation.path
    for parameter in operation.parameters:
        if parameter.is_in_path:
            path = path.replace(f"{{{parameter.name}}}", ApiClient.quote_id(values[parameter.name].strip()))
    root = values.get("root", "")
    return (root if root in operation.roots else operation.roots[0]) + path


def _query(operation: Operation, values: dict[str, str]) -> dict[str, str]:
    """Return the query parameters of the form. `limit` is never larger than MAX_RECORDS."""
    query = {each.name: values.get(each.name, "").strip() for each in operation.parameters if not each.is_in_path}
    if operation.has_limit:
        limit = query["limit"] or next(each.example for each in operation.parameters if each.name == "limit")
        is_number = limit.isascii() and limit.isdigit()
        query["limit"] = str(min(int(limit[:9]), MAX_RECORDS)) if is_number else limit
    return {name: value[:MAX_PARAMETER_LENGTH] for name, value in query.items() if value}


def _body(operation: Operation, values: dict[str, str]) -> bytes:
    return values.get("body", operation.example_body).encode() if operation.method == "PUT" else b""


def _operation_page(operation: Operation, values: dict[str, str], result: ApiResult | None, problem: str = "") -> str:
    console = current()
    return render_template(
        "console/explorer/operation.html",
        operation=operation,
        values=values,
        tokens=_tokens(console),
        can_send=not operation.is_write or console.allows(Permission.CREDENTIALS_MANAGE),
        problem=problem,
        result=_shown(result) if result is not None else None,
        curl=curl_command(_url(operation, values, result), operation.method, _body(operation, values).decode()),
        max_records=MAX_RECORDS,
    )


def _url(operation: Operation, values: dict[str, str], result: ApiResult | None) -> str:
    """Return the path and query of the request that was sent, or of the one that the form would send."""
    if result is not None:
        return result.url
    given = {each.name: values.get(each.name, "").strip() or each.name.upper() for each in operation.parameters}
    path = _path(operation, {**given, "root": values.get("root", "")})
    query = _query(operation, values)
    return f"{path}?{urlencode(query)}" if query else path


def _shown(result: ApiResult) -> dict[str, Any]:
    """Return the response for the template, with the beginning of its body in a readable form."""
    try:
        text = orjson.dumps(result.json, option=orjson.OPT_INDENT_2).decode() if result.body else ""
    except orjson.JSONDecodeError:
        text = result.body.decode(errors="replace")
    headers = [(name, value) for name, value in result.headers.items() if name != "Set-Cookie"]
    return {
        "status": result.status,
        "ok": result.ok,
        "headers": headers,
        "text": text[:MAX_SHOWN_LENGTH],
        "length": len(text),
        "is_cut": len(text) > MAX_SHOWN_LENGTH,
    }
