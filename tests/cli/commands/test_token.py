"""Tokens from the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.permissions.scopes import ALL, DEFAULT, GRADEBOOK, ROSTER, sort_scopes
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import Ran, Run


def verified(token: str, folder: Path) -> bool:
    with open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store:
        return TokenStore(store).authenticate(token)[0] is not None


def create(run: Run, *words: str) -> Ran:
    ran = run("token", "create", "--label", "Reading app", "--json", *words)
    assert ran.code == 0, ran.err
    return ran


def test_a_created_token_is_one_object_and_works(run: Run, tmp_path: Path) -> None:
    made = create(run).json
    assert list(made) == ["token", "id", "prefix", "tenant", "scopes", "limits", "expires"]
    assert made["token"].startswith(made["prefix"])
    assert (made["tenant"], made["scopes"], made["expires"]) == ("default", sort_scopes(DEFAULT), None)
    assert verified(made["token"], tmp_path)


def test_for_a_person_the_token_is_shown_once_and_said_to_be(run: Run, tmp_path: Path) -> None:
    ran = run("token", "create", "--label", "Reading app")
    assert verified(ran.out.splitlines()[0], tmp_path)
    assert "The token is shown only this once" in ran.out


@pytest.mark.parametrize(
    ("words", "scopes"),
    [
        (["--scope", "all"], list(ALL)),
        (["--scope", ROSTER], [ROSTER]),
        (["--scope", "gradebook.readonly", "--scope", "roster.readonly"], [ROSTER, GRADEBOOK]),
    ],
)
def test_scopes_are_asked_for_by_uri_by_last_part_or_all(words: list[str], scopes: list[str], run: Run) -> None:
    assert create(run, *words).json["scopes"] == scopes


def test_an_unknown_scope_is_a_usage_error_that_lists_them(run: Run, tmp_path: Path) -> None:
    ran = run("token", "create", "--label", "x", "--scope", "roster")
    assert ran.code == 2
    assert "unknown scope 'roster'; the scopes are roster-core.readonly" in ran.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("span", "days"), [("90d", 90), ("8w", 56), ("48h", 2), ("1440m", 1)])
def test_a_token_expires_after_a_span(span: str, days: int, run: Run) -> None:
    expires = datetime.fromisoformat(create(run, "--expires", span).json["expires"])
    assert abs(expires - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=1)


@pytest.mark.parametrize("span", ["", "90", "d", "0d", "-1d", "1.5d", "90 d", "90D", "36526d", "999999999w", "٣d"])
def test_what_is_no_span_is_a_usage_error(span: str, run: Run) -> None:
    ran = run("token", "create", "--label", "x", "--expires", span)
    assert ran.code == 2
    assert "is not a duration" in ran.err


def test_a_token_from_elsewhere_is_let_in_by_its_hash_and_not_shown(run: Run, tmp_path: Path) -> None:
    token = "chk_" + "5eed" * 16
    made = create(run, "--sha256", sha256(token.encode()).hexdigest()).json
    assert (made["token"], made["prefix"]) == (None, None)
    assert verified(token, tmp_path)
    again = run("token", "create", "--label", "x", "--sha256", sha256(token.encode()).hexdigest(), "--json")
    assert (again.code, again.json["error"]) == (1, "refused")


@pytest.mark.parametrize("words", [["--sha256", "abc"], ["--label", ""], ["--tenant", "north"]])
def test_what_cannot_be_made_is_refused(words: list[str], run: Run) -> None:
    ran = run("token", "create", "--label", "x", "--json", *words)
    assert (ran.code, ran.json["error"]) == (1, "refused")


def test_a_store_that_keeps_nothing_makes_no_token(run: Run) -> None:
    ran = run("token", "create", "--label", "x", "--storage", "memory:")
    assert ran.code == 1
    assert "memory: loses its data when this command ends" in ran.err


def test_the_list_shows_how_tokens_begin_and_never_the_token_or_its_hash(run: Run) -> None:
    made = create(run).json
    for ran in (run("token", "list", "--json"), run("token", "list")):
        assert made["id"] in ran.out
        assert made["prefix"] in ran.out
        assert made["token"] not in ran.out
        assert sha256(made["token"].encode()).hexdigest() not in ran.out
    [listed] = run("token", "list", "--json").json["tokens"]
    assert (listed["label"], listed["state"], listed["lastUsed"]) == ("Reading app", "active", None)


def test_a_list_of_nothing_creates_nothing(run: Run, tmp_path: Path) -> None:
    assert run("token", "list", "--json").json == {"tokens": []}
    assert "There are no tokens" in run("token", "list").out
    assert run("token", "revoke", "0123").code == 1
    assert not list(tmp_path.iterdir())


def test_a_revoked_token_grants_nothing_and_stays_in_the_list(run: Run, tmp_path: Path) -> None:
    made = create(run).json
    ran = run("token", "revoke", made["id"], "--json")
    assert (ran.code, ran.json["state"]) == (0, "revoked")
    assert not verified(made["token"], tmp_path)
    assert run("token", "list", "--json").json["tokens"][0]["state"] == "revoked"


def test_an_unknown_id_is_refused(run: Run) -> None:
    create(run)
    ran = run("token", "revoke", "nobody", "--json")
    assert (ran.code, ran.json["error"]) == (1, "refused")
    assert "'nobody'" in ran.json["message"]


def test_limits_go_with_a_token_and_are_shown(run: Run) -> None:
    words = ["--restrict-org", "s-1", "--restrict-org", "s-2", "--restrict-grade", "09", "--restrict-class", "c-1"]
    words += ["--deny", "results", "--redact", "email"]
    limits = {
        "orgs": ["s-1", "s-2"],
        "grades": ["09"],
        "classes": ["c-1"],
        "denied": ["results"],
        "redacted": ["email"],
    }
    assert create(run, *words).json["limits"] == limits
    assert run("token", "list", "--json").json["tokens"][0]["limits"] == limits
    assert (
        "limits  orgs s-1; without email"
        in run("token", "create", "--label", "x", "--restrict-org", "s-1", "--redact", "email").out
    )
    assert "  orgs s-1; without email  " in run("token", "list").out
    assert "  orgs s-1,s-2; grades 09; classes c-1; no results; without...  " in run("token", "list").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--deny", "people"], "unknown collection 'people'; the collections are orgs"),
        (["--redact", "e-mail"], "unknown field 'e-mail'; the fields that can be redacted are"),
        (["--redact", "sourcedId"], "sourcedId cannot be redacted"),
        (["--limit-org", " "], "the id of an org cannot be blank"),
    ],
)
def test_limits_that_nobody_can_mean_are_a_usage_error(
    words: list[str], message: str, run: Run, tmp_path: Path
) -> None:
    ran = run("token", "create", "--label", "x", *words)
    assert ran.code == 2
    assert message in " ".join(ran.err.split())
    assert not list(tmp_path.iterdir())
