"""SSRF guard: allowed and forbidden targets, and the reason for each rejection."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, ip_address
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalk_flask.settings import SettingsError, load_settings
from chalk_flask.settings.host_allowlist import InvalidAllowlistEntryError, validate_allowlist
from chalk_flask.webhooks.http.ssrf_guard import (
    MAX_URL_LENGTH,
    ForbiddenTargetError,
    ResolutionError,
    SsrfGuard,
    is_public,
)

NOT_PUBLIC, LOCAL, DISGUISED = "is not public", "local network", "four decimal numbers"
NO_URL, NOT_ASCII, NO_NAME = "are required", "its ASCII form", "is not a host name"
BLANK, USER, PORT, SIX = "a blank, a control", "user or a password", "ports are 1 to 65535", "IPv6 address"

FORBIDDEN = [
    # other schemes, and none
    ("http://hooks.example.org/", "use https"),
    ("HTTP://hooks.example.org/", "use https"),
    ("http://93.184.215.14/", "use https"),
    ("ftp://hooks.example.org/", NO_URL),
    ("file:///etc/passwd", NO_URL),
    ("gopher://hooks.example.org:70/_x", NO_URL),
    ("javascript:alert(1)", NO_URL),
    ("ws://hooks.example.org/", NO_URL),
    ("hooks.example.org/a", NO_URL),
    ("//hooks.example.org/a", NO_URL),
    ("https:hooks.example.org", NO_URL),
    ("https:/hooks.example.org", NO_URL),
    ("https:///hooks.example.org", NO_URL),
    ("https://", NO_URL),
    ("https://?x", NO_URL),
    ("", NO_URL),
    ("/hooks", NO_URL),
    # users, fragments, length, blanks, tricks
    ("https://user:pass@hooks.example.org/", USER),
    ("https://user@hooks.example.org/", USER),
    ("https://@hooks.example.org/", USER),
    ("https://hooks.example.org@127.0.0.1/", USER),
    ("https://hooks.example.org:443@127.0.0.1/", USER),
    ("https://127.0.0.1%40hooks.example.org/", "escapes"),
    ("https://hooks.example.org/#part", "fragment"),
    ("https://hooks.example.org/#", "fragment"),
    ("https://hooks.example.org#@127.0.0.1/", "fragment"),
    ("https://hooks.example.org/" + "a" * MAX_URL_LENGTH, "2026 characters"),
    (" https://hooks.example.org/", BLANK),
    ("https://hooks.example.org/ ", BLANK),
    ("https://hooks.example.org/a b", BLANK),
    ("https://hooks.example.org/\r\nHost: other", BLANK),
    ("https://hooks.exam\tple.org/", BLANK),
    ("https://hooks.example.org/\x00", BLANK),
    ("https://hooks.example.org/\x7f", BLANK),
    ("https://hooks.example.org\\@127.0.0.1/", BLANK),
    ("https:\\\\hooks.example.org/", BLANK),
    ("https://hooks.example.org/schön", "percent-encode"),
    ("https://hooks.example.org/?a=é", "percent-encode"),
    # ports
    ("https://hooks.example.org:0/", PORT),
    ("https://hooks.example.org:65536/", PORT),
    ("https://hooks.example.org:99999999999999999999/", PORT),
    ("https://hooks.example.org:/", PORT),
    ("https://hooks.example.org:-1/", "is not a host"),
    ("https://hooks.example.org:+443/", "is not a host"),
    ("https://hooks.example.org:https/", "is not a host"),
    ("https://hooks.example.org:443:443/", "is not a host"),
    ("https://hooks.example.org:４４３/", "is not a host"),
    ("https://:443/", "the host is missing"),
    # private addresses as they are
    ("https://127.0.0.1/", NOT_PUBLIC),
    ("https://127.255.255.254:8443/", NOT_PUBLIC),
    ("https://0.0.0.0/", NOT_PUBLIC),
    ("https://10.0.0.1/", NOT_PUBLIC),
    ("https://172.16.0.1/", NOT_PUBLIC),
    ("https://172.31.255.255/", NOT_PUBLIC),
    ("https://192.168.1.1/", NOT_PUBLIC),
    ("https://100.64.0.1/", NOT_PUBLIC),
    ("https://169.254.169.254/latest/meta-data/", NOT_PUBLIC),
    ("https://192.0.0.8/", NOT_PUBLIC),
    ("https://192.0.2.1/", NOT_PUBLIC),
    ("https://192.88.99.1/", NOT_PUBLIC),
    ("https://198.18.0.1/", NOT_PUBLIC),
    ("https://198.51.100.1/", NOT_PUBLIC),
    ("https://203.0.113.1/", NOT_PUBLIC),
    ("https://224.0.0.1/", NOT_PUBLIC),
    ("https://240.0.0.1/", NOT_PUBLIC),
    ("https://255.255.255.255/", NOT_PUBLIC),
    # other spellings of IPv4 addresses
    ("https://2130706433/", DISGUISED),
    ("https://0x7f000001/", DISGUISED),
    ("https://017700000001/", DISGUISED),
    ("https://0177.0.0.1/", DISGUISED),
    ("https://0x7f.1/", DISGUISED),
    ("https://0x7f.0.0.0x1/", DISGUISED),
    ("https://127.1/", DISGUISED),
    ("https://127.0.1/", DISGUISED),
    ("https://127.000.000.001/", DISGUISED),
    ("https://0/", DISGUISED),
    ("https://0x/", DISGUISED),
    ("https://256.256.256.256/", DISGUISED),
    ("https://127.0.0.1.1/", DISGUISED),
    ("https://4294967297/", DISGUISED),
    ("https://hooks.example.1/", DISGUISED),
    ("https://127.0.0.1./", "ends with a dot"),
    ("https://127.1./", "ends with a dot"),
    ("https://１２７.0.0.1/", NOT_ASCII),
    ("https://127。0。0。1/", NOT_ASCII),
    ("https://①②⑦.0.0.1/", NOT_ASCII),
    ("https://127.0.0.1%2f@x/", USER),
    ("https://%31%32%37.0.0.1/", "escapes"),
    ("https://127.0.0.1%00.example.org/", "escapes"),
    ("https://[127.0.0.1]/", "invalid URL"),
    # IPv6
    ("https://[::1]/", NOT_PUBLIC),
    ("https://[::]/", NOT_PUBLIC),
    ("https://[0:0:0:0:0:0:0:1]:8443/", NOT_PUBLIC),
    ("https://[::ffff:127.0.0.1]/", NOT_PUBLIC),
    ("https://[::ffff:7f00:1]/", NOT_PUBLIC),
    ("https://[::ffff:0a00:0001]/", NOT_PUBLIC),
    ("https://[::127.0.0.1]/", NOT_PUBLIC),
    ("https://[::8.8.8.8]/", NOT_PUBLIC),
    ("https://[64:ff9b::127.0.0.1]/", NOT_PUBLIC),
    ("https://[64:ff9b::a9fe:a9fe]/", NOT_PUBLIC),
    ("https://[64:ff9b:1::8.8.8.8]/", NOT_PUBLIC),
    ("https://[2002:7f00:1::]/", NOT_PUBLIC),
    ("https://[2002:c0a8:101::1]/", NOT_PUBLIC),
    ("https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/", NOT_PUBLIC),
    ("https://[2001:db8::1]/", NOT_PUBLIC),
    ("https://[3fff::1]/", NOT_PUBLIC),
    ("https://[100::1]/", NOT_PUBLIC),
    ("https://[fc00::1]/", NOT_PUBLIC),
    ("https://[fd12:3456::1]/", NOT_PUBLIC),
    ("https://[fe80::1]/", NOT_PUBLIC),
    ("https://[fec0::1]/", NOT_PUBLIC),
    ("https://[ff02::1]/", NOT_PUBLIC),
    ("https://[5f00::1]/", NOT_PUBLIC),
    ("https://[fe80::1%25eth0]/", "invalid URL"),
    ("https://[2606:4700::1%eth0]/", "invalid URL"),
    ("https://[::1/", "invalid URL"),
    ("https://::1/", SIX),
    ("https://[v1.fe80]/", "invalid URL"),
    ("https://[::1]x/", "invalid URL"),
    # names
    ("https://localhost/", LOCAL),
    ("https://LOCALHOST:8443/", LOCAL),
    ("https://hooks.localhost/", LOCAL),
    ("https://localhost./", "ends with a dot"),
    ("https://localhost.localdomain/", LOCAL),
    ("https://printer.local/", LOCAL),
    ("https://metadata.google.internal/", LOCAL),
    ("https://router.home.arpa/", LOCAL),
    ("https://home.arpa/", LOCAL),
    ("https://intranet/", LOCAL),
    ("https://hooks.example.org./", "ends with a dot"),
    ("https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", NOT_ASCII),
    ("https://loc\u00adalhost.example/", NOT_ASCII),
    ("https://hooks\u200b.example.org/", NOT_ASCII),
    ("https://straße.example.org/", NOT_ASCII),
    ("https://hooks．example．org/", NOT_ASCII),
    ("https://hooks℀.example.org/", "invalid URL"),
    ("https://" + "ü" * 64 + ".example.org/", NOT_ASCII),
    ("https://hooks..example.org/", NO_NAME),
    ("https://.example.org/", NO_NAME),
    ("https://-hooks.example.org/", NO_NAME),
    ("https://hooks_one.example.org/", NO_NAME),
    ("https://*.example.org/", NO_NAME),
    ("https://hooks!example.org/", NO_NAME),
    ("https://" + "a" * 64 + ".example.org/", NO_NAME),
    ("https://" + "a." * 130 + "example.org/", NO_NAME),
    ("https://%6cocalhost/", "escapes"),
]

PUBLIC = [
    ("https://hooks.example.org", "https://hooks.example.org/", "hooks.example.org"),
    ("HTTPS://Hooks.Example.ORG:443/A?b=C", "https://hooks.example.org/A?b=C", "hooks.example.org"),
    (
        "https://hooks.example.org:8443/a/b?c=d&e=%20",
        "https://hooks.example.org:8443/a/b?c=d&e=%20",
        "hooks.example.org",
    ),
    ("https://hooks.example.org?x=1", "https://hooks.example.org/?x=1", "hooks.example.org"),
    ("https://hooks.example.org/a//../@b:c", "https://hooks.example.org/a//../@b:c", "hooks.example.org"),
    ("https://bücher.example.org/", "https://xn--bcher-kva.example.org/", "xn--bcher-kva.example.org"),
    ("https://xn--bcher-kva.example.org/", "https://xn--bcher-kva.example.org/", "xn--bcher-kva.example.org"),
    ("https://学校.example.org/", "https://xn--48s290a.example.org/", None),
    ("https://8.8.8.8/", "https://8.8.8.8/", "8.8.8.8"),
    ("https://172.32.0.1/", "https://172.32.0.1/", "172.32.0.1"),
    ("https://100.128.0.1/", "https://100.128.0.1/", "100.128.0.1"),
    ("https://[2606:4700:0:0::1111]:8443/", "https://[2606:4700::1111]:8443/", "2606:4700::1111"),
    ("https://[64:ff9b::8.8.8.8]/", "https://[64:ff9b::808:808]/", "64:ff9b::808:808"),
    ("https://localhost.example.org/", "https://localhost.example.org/", "localhost.example.org"),
    ("https://0x7f.example.org/", "https://0x7f.example.org/", "0x7f.example.org"),
    ("https://hooks.example.org/" + "a" * (MAX_URL_LENGTH - 26), None, "hooks.example.org"),
]


@pytest.mark.parametrize(("url", "reason"), FORBIDDEN, ids=lambda value: ascii(value)[:60])
def test_forbidden_url_is_rejected_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(ForbiddenTargetError, match=reason):
        SsrfGuard().check_url(url)


@pytest.mark.parametrize(("url", "ascii_url", "host"), PUBLIC, ids=lambda value: ascii(value)[:60])
def test_public_url_is_accepted_in_its_ascii_form(url: str, ascii_url: str | None, host: str | None) -> None:
    target = SsrfGuard().check_url(url)
    assert target.url == (ascii_url or url)
    assert target.hostname == (host or target.hostname)
    assert SsrfGuard().check_url(target.url) == target


def test_target_has_the_parts_of_a_request() -> None:
    target = SsrfGuard().check_url("https://[2606:4700::1111]:8443?x=1")
    assert (target.scheme, target.port, target.authority, target.path) == (
        "https",
        8443,
        "[2606:4700::1111]:8443",
        "/?x=1",
    )


def test_message_contains_no_password_path_or_query() -> None:
    for url in (
        "https://user:hush@h.example.org/?hush",
        "https://10.0.0.1/hush?hush",
        "http://h.example.org/hush",
        "https://h.example.org:0/?token=hush",
        "https://h.example.org/hush#hush",
    ):
        with pytest.raises(ForbiddenTargetError) as raised:
            SsrfGuard().check_url(url)
        assert "hush" not in str(raised.value)


ALLOWED = [
    ("hooks.lan", "http://hooks.lan/", True),
    ("hooks.lan", "https://hooks.lan:8443/", True),
    ("HOOKS.lan", "http://hooks.LAN:9000/", True),
    ("hooks.lan:9000", "http://hooks.lan:9000/", True),
    ("hooks.lan:9000", "http://hooks.lan:9001/", False),
    ("hooks.lan", "http://other.lan/", False),
    ("hooks.lan", "http://a.hooks.lan/", False),
    ("localhost", "http://localhost:8000/", True),
    ("intranet", "https://intranet/", True),
    ("bücher.lan", "http://xn--bcher-kva.lan/", True),
    ("127.0.0.1", "http://127.0.0.1:8000/", True),
    ("127.0.0.1:8000", "http://127.0.0.1:8000/", True),
    ("127.0.0.1:8000", "http://127.0.0.1/", False),
    ("127.0.0.1", "http://[::ffff:127.0.0.1]/", True),
    ("127.0.0.1", "http://localhost/", False),
    ("127.0.0.1", "https://127.0.0.2/", False),
    ("127.0.0.1", "https://127.1/", False),
    ("10.0.0.0/8", "http://10.2.3.4/", True),
    ("10.0.0.0/8", "https://11.2.3.4/", True),  # public anyway
    ("10.0.0.0/8", "http://11.2.3.4/", False),
    ("10.0.0.0/8", "http://[::ffff:10.2.3.4]/", True),
    ("::1", "http://[::1]/", True),
    ("[::1]", "http://[::1]:8000/", True),
    ("[::1]:8000", "http://[::1]:8000/", True),
    ("[::1]:8000", "http://[::1]/", False),
    ("fd00::/8", "http://[fd12::1]/", True),
    ("fd00::/8", "http://[fe80::1]/", False),
]


@pytest.mark.parametrize(("entry", "url", "allowed"), ALLOWED)
def test_allowlist_allows_private_and_plain_http_targets(entry: str, url: str, allowed: bool) -> None:
    guard = SsrfGuard([entry, " "], make_resolver("10.0.0.7"))
    if allowed:
        assert guard.resolve_target(guard.check_url(url))[0][1] == guard.check_url(url).port
    else:
        with pytest.raises(ForbiddenTargetError, match=r"webhook_allowed_hosts|four decimal"):
            guard.check_url(url)


INVALID_ENTRIES = [
    "http://hooks.lan",
    "https://hooks.lan/",
    "hooks.lan/path",
    "10.0.0.1/8",
    "10.0.0.0/33",
    "*",
    "*.lan",
    "hooks lan",
    "hooks.lan:0",
    "hooks.lan:port",
    "hooks.lan:",
    ":80",
    "127.1",
    "0x7f000001",
    "hooks.lan.",
    "user@hooks.lan",
    "[::1",
    "fe80::1%eth0",
    "[10.0.0.1]",
]


@pytest.mark.parametrize("entry", INVALID_ENTRIES)
def test_invalid_allowlist_entry_is_rejected_by_name(entry: str) -> None:
    with pytest.raises(InvalidAllowlistEntryError) as raised:
        SsrfGuard(["hooks.lan", entry])
    assert repr(entry) in str(raised.value)


def test_allowed_hosts_setting_is_a_comma_separated_list() -> None:
    text = "hooks.lan:8080, 10.1.0.0/16,,[::1]"
    assert load_settings({"webhook_allowed_hosts": text}, {}).webhook_allowed_hosts == text
    assert validate_allowlist("") is None
    with pytest.raises(SettingsError, match=r"webhook_allowed_hosts .*comma-separated list of hosts.*'10\.0\.0\.1/8'"):
        load_settings({"webhook_allowed_hosts": "hooks.lan,10.0.0.1/8"}, {})


def make_resolver(*addresses: str) -> Callable[[str, int], Sequence[str]]:
    return lambda host, port: addresses


def addresses(guard: SsrfGuard, url: str = "https://hooks.example.org:8443/") -> list[tuple[str, int]]:
    return guard.resolve_target(guard.check_url(url))


def test_all_public_addresses_of_a_name_are_returned() -> None:
    guard = SsrfGuard(resolve=make_resolver("8.8.8.8", "2606:4700::1111"))
    assert addresses(guard) == [("8.8.8.8", 8443), ("2606:4700::1111", 8443)]


@pytest.mark.parametrize(
    "private",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "2002:a00:1::1",
        "2001::1",
        "fd00::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff0e::1",
        "224.0.1.1",
    ],
)
def test_name_with_one_private_address_is_rejected(private: str) -> None:
    for resolved in ([private], ["8.8.8.8", private], [private, "8.8.8.8"]):
        with pytest.raises(ForbiddenTargetError, match="is not public"):
            addresses(SsrfGuard(resolve=make_resolver(*resolved)))


def test_allowed_name_or_allowed_address_is_enough() -> None:
    assert addresses(SsrfGuard(["hooks.example.org"], make_resolver("10.0.0.7")))
    assert addresses(SsrfGuard(["10.0.0.0/24"], make_resolver("10.0.0.7", "8.8.8.8")))
    assert addresses(SsrfGuard(["10.0.0.7:8443"], make_resolver("10.0.0.7")))
    for other in ("hooks.example.org:443", "10.0.0.7:443", "10.0.1.0/24", "other.example.org"):
        with pytest.raises(ForbiddenTargetError):
            addresses(SsrfGuard([other], make_resolver("10.0.0.7")))


def test_unresolvable_name_is_a_resolution_error() -> None:
    def fail(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    for resolve in (fail, make_resolver(), make_resolver("nonsense")):
        with pytest.raises(ResolutionError):
            addresses(SsrfGuard(resolve=resolve))


def test_address_is_not_resolved() -> None:
    guard = SsrfGuard(resolve=make_resolver())
    assert addresses(guard, "https://8.8.8.8/") == [("8.8.8.8", 443)]
    assert addresses(guard, "https://[2606:4700::1111]/") == [("2606:4700::1111", 443)]


def test_system_resolver_is_the_default() -> None:
    resolved = addresses(SsrfGuard(["localhost"]), "http://localhost:8000/")
    assert set(resolved) <= {("127.0.0.1", 8000), ("::1", 8000)}
    assert resolved


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "2606:4700::1", "2a00:1450::1", "::ffff:8.8.8.8", "2002:808:808::"]
)
def test_internet_address_is_public(text: str) -> None:
    assert is_public(ip_address(text))


PIECES = (
    "https:// http: / // 127 0x7f 0177 .1 . 0 :443 : @"
    " # ? % %31 [ ] :: ffff １ 。 localhost example.org xn-- - _ é \t \\ a"
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*PIECES.split(" "), " "]) | st.text(max_size=3), max_size=9).map("".join))
@example("127.0.0.1")
@example("0x7f.1")
def test_accepted_url_means_the_same_to_other_parsers(text: str) -> None:
    guard = SsrfGuard()
    for url in (text, f"https://{text}", f"https://{text}/hooks"):
        try:
            target = guard.check_url(url)
        except ForbiddenTargetError:
            continue
        assert target.url.isascii()
        assert urlsplit(target.url).hostname == target.hostname
        assert (urlsplit(target.url).port or 443) == target.port
        assert guard.check_url(target.url) == target
        try:
            parsed = IPv4Address(socket.inet_aton(target.hostname))  # accepts every spelling of an address
        except OSError:
            continue
        assert is_public(parsed)
