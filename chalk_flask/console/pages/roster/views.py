"""Pages of the roster browser: all collections, one collection, the records below another one, and a single record."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import orjson
from flask import abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from chalk_flask.admins.roles import Permission
from chalk_flask.console.api_client import DEFAULT_ROOT, ApiResult
from chalk_flask.console.context import current
from chalk_flask.console.pages.roster.catalog import (
    BY_RESOURCE_TYPE,
    COLLECTIONS,
    BrowsedCollection,
    Column,
    find_collection,
    find_nested,
    title_of,
)
from chalk_flask.console.pages.roster.history import history_of, last_change_of, requested_start
from chalk_flask.console.pages.roster.labels import RecordLink, RecordLinks, find_record, record_url
from chalk_flask.console.pages.roster.related import related_parts
from chalk_flask.console.pages.roster.rows import fields_of, page_size, rows_of
from chalk_flask.console.pages.roster.search import clause, completions, search_filter, suggestions
from chalk_flask.console.widgets.curl import curl_command
from chalk_flask.console.widgets.encrypted_search import (
    MAX_FILTER_LENGTH,
    MAX_SEARCH_LENGTH,
    decrypt_search,
    encrypt_search,
)
from chalk_flask.console.widgets.paging import page_of, page_offset
from chalk_flask.oneroster.vocabularies import ACTIVE, TO_BE_DELETED

__all__ = [
    "browse_collection",
    "browse_nested",
    "browse_roster",
    "search_collection",
    "search_nested",
    "show_record",
]

MAX_JSON_LENGTH = 12_000
"""Maximum length in characters of the JSON on the page of a record."""

_BAD_REQUEST, _INVALID_FORM = 400, 422


def browse_roster() -> ResponseReturnValue:
    """Show every collection with its number of records."""
    console = current()
    visible = [
        (collection, None if collection.is_demographics else console.api.count(f"/{name}"))
        for name, collection in COLLECTIONS.items()
        if not collection.is_demographics or console.allows(Permission.DEMOGRAPHICS_VIEW)
    ]
    return render_template("console/roster/index.html", collections=visible)


def browse_collection(collection: str) -> ResponseReturnValue:
    """Show a page of a collection, with search, filter and order."""
    browsed = find_collection(collection)
    return _list_page(browsed, f"/{collection}", browsed.label, None)


def browse_nested(collection: str, record_id: str, nested: str) -> ResponseReturnValue:
    """Show a page of the records that the API serves below a record, such as the students of a class."""
    browsed = find_nested(collection, nested)
    api = current().api
    parent = api.get(f"/{collection}/{api.quote_id(record_id)}").record
    name = find_collection(collection).resource_type.name
    link = RecordLink(title_of(name, parent), record_url(collection, record_id))
    return _list_page(browsed, f"/{collection}/{api.quote_id(record_id)}/{nested}", browsed.label, link, record_id)


def search_collection(collection: str) -> ResponseReturnValue:
    """Redirect to the page of a collection with the posted search and filter."""
    find_collection(collection)
    return _redirect_to_search("browse_collection", collection=collection)


def search_nested(collection: str, record_id: str, nested: str) -> ResponseReturnValue:
    """Redirect to the page of the records below a record with the posted search and filter."""
    find_nested(collection, nested)
    return _redirect_to_search("browse_nested", collection=collection, record_id=record_id, nested=nested)


def show_record(collection: str, record_id: str) -> ResponseReturnValue:
    """Show a record: its fields, the records that refer to it, its change history, and its JSON."""
    console = current()
    browsed = find_collection(collection)
    if browsed.is_demographics:
        return redirect(record_url("users", record_id))
    record = find_record(console.api, collection, record_id)
    if record is None:
        abort(404)
    name, links = browsed.resource_type.name, RecordLinks(console.api)
    text = orjson.dumps({browsed.resource_type.singular_name: record}, option=orjson.OPT_INDENT_2).decode()
    return render_template(
        "console/roster/record.html",
        collection=BY_RESOURCE_TYPE[name],
        record=record,
        title=title_of(name, record),
        is_deleted=record.get("status") == TO_BE_DELETED,
        fields=list(fields_of(browsed, record, links)),
        parts=related_parts(console, name, record_id, links),
        last_change=last_change_of(console, name, record),
        history=history_of(console, console.api, name, record_id, links, requested_start()),
        json_text=text[:MAX_JSON_LENGTH],
        json_length=len(text),
        max_json_length=MAX_JSON_LENGTH,
        curl=curl_command(f"{DEFAULT_ROOT}/{collection}/{console.api.quote_id(record_id)}"),
    )


def _redirect_to_search(endpoint: str, **ids: str) -> ResponseReturnValue:
    form = request.form
    search = encrypt_search(
        q=form.get("q", "").strip()[:MAX_SEARCH_LENGTH], filter=form.get("filter", "").strip()[:MAX_FILTER_LENGTH]
    )
    order = {name: form.get(name) or None for name in ("sort", "orderBy")}
    values: dict[str, Any] = {**ids, **order, "search": search}
    return redirect(url_for(f"console.{endpoint}", **values), 303)


def _list_page(
    browsed: BrowsedCollection, path: str, title: str, parent: RecordLink | None = None, parent_id: str = ""
) -> ResponseReturnValue:
    """Return a page of records. Its title has the id of the parent, because browsers keep titles in their history."""
    console = current()
    texts = decrypt_search()
    search, filter_text = texts.get("q", ""), texts.get("filter", "")
    size = page_size(console)
    params = {
        "limit": size,
        "offset": page_offset(),
        "sort": request.args.get("sort", ""),
        "orderBy": request.args.get("orderBy", ""),
        "filter": search_filter(browsed, search, filter_text),
    }
    result = console.api.get(path, params)
    if result.status in (403, 404):
        abort(result.status)
    page = render_template(
        "console/roster/list.html",
        collection=browsed,
        title=title,
        parent=parent,
        parent_id=parent_id,
        action=_path(),
        search=search,
        filter_text=filter_text,
        effective_filter=params["filter"],
        headers=[_header(column) for column in browsed.columns],
        rows=rows_of(browsed, result.records, RecordLinks(console.api)),
        page=page_of(result.total, size),
        message=result.message,
        exact=_record_with_id(browsed, search),
        completions=completions(browsed),
        suggestions=suggestions(browsed),
        quick_filters=_quick_filters(search, filter_text) if parent or not browsed.presentation.is_large else [],
        curl=curl_command(result.url),
    )
    return page, _status_of(result)


def _status_of(result: ApiResult) -> int:
    """Return the status of a list: an invalid filter is an error of the form."""
    return _INVALID_FORM if result.status == _BAD_REQUEST else result.status


def _record_with_id(browsed: BrowsedCollection, search: str) -> RecordLink | None:
    """Return the link to the record whose id was typed into the search box."""
    api = current().api
    text = search.strip()
    if not text or not api.get(f"/{browsed.name}/{api.quote_id(text)}", {"fields": "sourcedId"}).ok:
        return None
    return RecordLinks(api).link(browsed.resource_type.name, text)


def _header(column: Column) -> dict[str, Any]:
    """Return the header of a column, with the link that sorts by it, or that reverses the order."""
    header: dict[str, Any] = {"label": column.label, "numeric": column.is_numeric}
    if not column.is_sortable:
        return header
    is_current = request.args.get("sort") == column.name
    descending = request.args.get("orderBy") == "desc"
    next_order = "desc" if is_current and not descending else "asc"
    header["url"] = _url_with(sort=column.name, orderBy=next_order, offset=None)
    if is_current:
        header["sorted"] = "descending" if descending else "ascending"
    return header


def _quick_filters(search: str, filter_text: str) -> list[dict[str, Any]]:
    """Return the links that show all, active or deleted records of a search.

    The status is in no index. A large collection has no such links, because the API would read all of its records.
    """
    choices = {"All": "", "Active": clause("status", "=", ACTIVE), "Deleted": clause("status", "=", TO_BE_DELETED)}
    return [
        {
            "label": label,
            "href": _url_with(search=encrypt_search(q=search, filter=text), offset=None),
            "current": filter_text == text,
        }
        for label, text in choices.items()
    ]


def _url_with(**changes: str | None) -> str:
    """Return the URL of the current page with other parameters. None removes a parameter."""
    params = {name: value for name, value in {**request.args.to_dict(), **changes}.items() if value}
    return f"{_path()}?{urlencode(params)}" if params else _path()


def _path() -> str:
    """Return the path of the current page, with encoded ids."""
    return url_for(request.endpoint or "", **(request.view_args or {}))
