"""Storage URLs of PostgreSQL."""

from __future__ import annotations

import subprocess
import sys

import pytest
from psycopg.conninfo import conninfo_to_dict

from backends import InvalidStorageURLError
from backends.postgresql.connections import parse_url

SECRET = "very-secret"


def test_url_has_hosts_options_of_libpq_and_own_parameters() -> None:
    location = parse_url(f"postgresql://me:{SECRET}@db1:5433,db2/chalk?schema=east&pool=4&partitions=8&sslmode=require")
    options = conninfo_to_dict(location.conninfo)
    assert (options["host"], options["port"]) == ("db1,db2", "5433,")
    assert (options["user"], options["password"], options["dbname"]) == ("me", SECRET, "chalk")
    assert (options["sslmode"], options["target_session_attrs"]) == ("require", "read-write")
    assert (location.schema, location.pool, location.partitions) == ("east", 4, 8)
    assert SECRET not in repr(location)


def test_defaults_are_those_of_the_documentation() -> None:
    location = parse_url("postgresql://db/chalk")
    assert (location.schema, location.pool, location.partitions) == ("chalk", 16, 32)


@pytest.mark.parametrize(
    "rest",
    [
        "db1/chalk?unknown=1",
        "db1/chalk?replicas=1",
        "db1/chalk?schema=public",
        "db1/chalk?schema=pg_catalog",
        "db1/chalk?schema=a%22b",
        "db1/chalk?schema=",
        "db1/chalk?schema=Upper",
        "db1/chalk?schema=a&schema=b",
        "db1/chalk?pool=0",
        "db1/chalk?pool=many",
        "db1/chalk?partitions=100000",
        "db1/chalk?pool",
        "db1:port/chalk?sslmode=%zz",
        "db1%zz/chalk",
        "[::1/chalk",
        f"{SECRET}@db1/chalk",
        f"db1/{SECRET}@db2",
        "db1/chalk#part",
        "/chalk",
    ],
)
def test_invalid_url_is_rejected_without_its_password(rest: str) -> None:
    with pytest.raises(InvalidStorageURLError) as caught:
        parse_url(f"postgresql://{rest}" if rest == "/chalk" else f"postgresql://me:{SECRET}@{rest}")
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_parameters_keep_spaces_and_plus_signs() -> None:
    location = parse_url("postgresql://db/chalk?options=-c%20jit%3Doff&password=a+b%2Bc%26d")
    options = conninfo_to_dict(location.conninfo)
    assert (options["options"], options["password"]) == ("-c jit=off", "a+b+c&d")


def test_socket_is_named_by_its_folder() -> None:
    options = conninfo_to_dict(parse_url("postgresql:///chalk?host=/run/postgresql").conninfo)
    assert (options["host"], options["dbname"]) == ("/run/postgresql", "chalk")


WITHOUT_DRIVER = """
import sys
sys.modules["psycopg"] = None
from backends import InvalidStorageURLError, store_exists
try:
    store_exists("postgresql://me:very-secret@db1/chalk")
except InvalidStorageURLError as error:
    print(error)
"""


def test_url_without_the_driver_says_what_to_install() -> None:
    process = subprocess.run([sys.executable, "-c", WITHOUT_DRIVER], capture_output=True, text=True, check=True)
    assert "pip install 'chalk-flask[postgresql]'" in process.stdout
    assert SECRET not in process.stdout + process.stderr
