"""Page of the demo: sample packages, and what the receiver of webhooks got."""

from __future__ import annotations

from flask import Response, abort, current_app, render_template, url_for
from flask.typing import ResponseReturnValue

from chalk_flask.console.context import current, signed_in
from chalk_flask.console.pages.demo.packages import SAMPLE_PACKAGES, package_bytes
from chalk_flask.console.pages.demo.receiver import DemoReceiver

__all__ = ["demo_receiver_url", "demo_url", "download_sample_package", "show_demo"]


def show_demo() -> ResponseReturnValue:
    """Show the sample packages, and the deliveries of the tenant that the receiver got."""
    receiver = _receiver_or_abort()
    deliveries = receiver.list(current().tenant)
    return render_template("console/demo/demo.html", packages=SAMPLE_PACKAGES, receiver=receiver, deliveries=deliveries)


def download_sample_package(name: str) -> ResponseReturnValue:
    """Return a sample package as a ZIP file."""
    _receiver_or_abort()
    package = next((package for package in SAMPLE_PACKAGES if package.name == name), None)
    if package is None:
        abort(404)
    headers = {"Content-Disposition": f'attachment; filename="{package.name}.zip"'}
    return Response(package_bytes(package), mimetype="application/zip", headers=headers)


def demo_url() -> str:
    """Return the URL of the page of the demo; "" for visitors, and if the service is not a demo."""
    return url_for("console.show_demo") if _receiver() is not None and signed_in() is not None else ""


def demo_receiver_url() -> str:
    """Return the URL of the receiver of the demo; "" if the service is not a demo."""
    receiver = _receiver()
    return "" if receiver is None else receiver.url


def _receiver() -> DemoReceiver | None:
    found: DemoReceiver | None = current_app.extensions.get("chalk_demo")
    return found


def _receiver_or_abort() -> DemoReceiver:
    receiver = _receiver()
    if receiver is None:
        abort(404)
    return receiver
