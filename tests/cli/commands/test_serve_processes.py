"""Command `serve` with several processes."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner
from joserfc import jwt

from chalk_flask.auth.clients.assertions import JWT_BEARER
from chalk_flask.cli import main
from tests.cli.conftest import SAMPLE, RunCommand, StartCommand, stop_process
from tests.support.console.client import filled, find_form
from tests.support.keys import ec_key, make_jwks
from tests.support.metrics import parse_samples
from tests.support.processes.alternating_browser import AlternatingBrowser
from tests.support.processes.supervised_service import (
    PATIENCE_SECONDS,
    SupervisedService,
    connection_to_each,
    get,
    processes_of,
    serving_processes,
    supervised_service,
    wait_patiently,
)
from tests.support.server_process import read_until

pytestmark = pytest.mark.slow

PUBLIC_URL = "https://roster.example.org"
SETTINGS = f"log_format = 'json'\npublic_url = '{PUBLIC_URL}'\n"
ORGS = "/ims/oneroster/v1p1/orgs"
TOKENS = "/settings/api-tokens"


def run_in(folder: Path, *args: str) -> str:
    """Run a command on the store of a service, and return its output."""
    result = CliRunner().invoke(main, [*args, "--storage", str(folder / "chalk.db")])
    assert result.exit_code == 0, result.output
    return result.stdout


def new_token(folder: Path) -> tuple[str, str]:
    """Return the id of a new token, and the token."""
    output = run_in(folder, "token", "create", "--label", "x", "--json")
    found = [re.search(rf'"{name}": "([^"]+)"', output) for name in ("id", "token")]
    assert found[0]
    assert found[1]
    return found[0][1], found[1][1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("service")
    run_in(path, "import", str(SAMPLE))
    return path


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[SupervisedService]:
    """Service that tests share. They may replace its processes. Its supervisor is killed, and none may be left then."""
    (folder / "chalk.toml").write_text(SETTINGS)
    with supervised_service(folder, "--config", "chalk.toml") as running:
        yield running


def wait_for_processes(service: SupervisedService, *, without: int) -> list[int]:
    """Wait until two processes other than a former one serve, and return them."""

    def are_there() -> bool:
        pids = service.pids()
        return len(pids) == 2 and without not in pids and serving_processes(service.port, pids) == {*pids}

    wait_patiently(are_there)
    return service.pids()


def test_both_processes_answer_and_one_line_has_the_url(service: SupervisedService) -> None:
    answers = service.from_each(lambda connection: get(connection, "/healthz"))
    assert list(answers.values()) == [(200, b'{"status":"ok"}')] * 2
    service.wait_for_log("Create the first one: chalk-flask admin create")
    assert service.log.count("Listening on") == 1
    assert service.log.count("service.started") == 1
    assert service.log.count("Create the first one: chalk-flask admin create") == 1


def test_revoked_token_is_rejected_at_once_in_every_process(service: SupervisedService, folder: Path) -> None:
    token_id, token = new_token(folder)
    with connection_to_each(service.port, service.pids()) as connections:
        assert [get(each, ORGS, token)[0] for each in connections.values()] == [200, 200]
        run_in(folder, "token", "revoke", token_id)
        assert [get(each, ORGS, token)[0] for each in connections.values()] == [401, 401]


def test_assertion_is_accepted_once_by_all_processes(service: SupervisedService, folder: Path) -> None:
    (folder / "jwks.json").write_bytes(make_jwks(ec_key("a")))
    output = run_in(folder, "client", "create", "--label", "x", "--jwks-file", str(folder / "jwks.json"), "--json")
    client = json.loads(output)["client_id"]
    now = int(time.time())
    claims = {"iss": client, "sub": client, "aud": f"{PUBLIC_URL}/oauth/token", "exp": now + 300, "jti": "1"}
    assertion = jwt.encode({"alg": "ES256"}, claims, ec_key("a"))

    def request_token(connection: http.client.HTTPConnection) -> int:
        form = {"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER, "client_assertion": assertion}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/oauth/token", urlencode(form), headers)
        response = connection.getresponse()
        response.read()
        return response.status

    assert sorted(service.from_each(request_token).values()) == [200, 401]


def test_console_works_if_each_request_reaches_another_process(service: SupervisedService, folder: Path) -> None:
    password = json.loads(run_in(folder, "admin", "create", "kim", "--role", "owner", "--json"))["password"]
    with connection_to_each(service.port, service.pids()) as connections:
        browser = AlternatingBrowser(connections.values())
        assert browser.submit("/login", "/login", name="kim", password=password).status == 200
        form = find_form(browser.get(f"{TOKENS}/new").text, TOKENS)
        fields = dict(filled(form, {"label": "Reading app"}))
        first, again = browser.post(TOKENS, fields), browser.post(TOKENS, fields)
        assert first.location.startswith(f"{TOKENS}/")
        assert again.location == first.location, "another process knows the submission"
        secret = re.search(r"chk_live_[0-9a-f]{40}", browser.get(first.location).text)
        assert secret
        assert [get(each, ORGS, secret[0])[0] for each in connections.values()] == [200, 200]
        assert secret[0] not in browser.get(first.location).text, "it is shown once"
        revoked = browser.submit(first.location, f"{first.location}/revoke")
        assert "is revoked" in revoked.text, "the message of another process"
        assert [get(each, ORGS, secret[0])[0] for each in connections.values()] == [401, 401]


def test_changed_roster_is_served_by_every_process(service: SupervisedService, folder: Path) -> None:
    _, token = new_token(folder)
    with connection_to_each(service.port, service.pids()) as connections:
        before = {get(each, ORGS, token)[1] for each in connections.values()}
        changed = (SAMPLE / "orgs.csv").read_text().replace("High School", "Upper School")
        package = folder / "changed"
        package.mkdir()
        for path in SAMPLE.glob("*.csv"):
            (package / path.name).write_bytes(path.read_bytes())
        (package / "orgs.csv").write_text(changed)
        run_in(folder, "import", str(package))
        after = {get(each, ORGS, token)[1] for each in connections.values()}
    assert (len(before), len(after)) == (1, 1)
    assert b"Upper School" in after.pop()


def test_killed_process_is_replaced_and_another_one_gets_the_worker(service: SupervisedService, folder: Path) -> None:
    wait_patiently(lambda: leader(service, folder))
    former, [before] = leader(service, folder), readiness_counts(service)
    service.from_each(lambda connection: get(connection, "/readyz"))
    wait_patiently(lambda: readiness_counts(service) == {before + 2})
    os.kill(former, signal.SIGKILL)
    wait_patiently(lambda: leader(service, folder) not in (0, former))
    assert leader(service, folder) in wait_for_processes(service, without=former)
    assert readiness_counts(service) == {before + 2}, "the numbers of a dead process are kept"
    assert (
        f'"event":"process.ended","process":{service.process.pid},"pid":{former},"reason":"signal SIGKILL"'
        in service.log
    )


def test_no_process_maps_the_store_after_one_could_not_read_it(service: SupervisedService, folder: Path) -> None:
    _, token = new_token(folder)

    def mapping_processes() -> list[int]:
        """Send requests to each process, and return those that have mapped the store."""
        service.from_each(lambda connection: [get(connection, ORGS, token) for _ in range(20)])
        return [pid for pid in service.pids() if f" {folder}/chalk.db\n" in Path(f"/proc/{pid}/maps").read_text()]

    mapping: list[int] = []

    def find_mapping() -> bool:
        mapping[:] = mapping_processes()
        return bool(mapping)

    wait_patiently(find_mapping)
    os.kill(mapping[0], signal.SIGBUS)  # as the system does after an error of the disk
    service.wait_for_log(f"process {mapping[0]} could not read a page of the store")
    wait_for_processes(service, without=mapping[0])
    wait_patiently(lambda: mapping_processes() == [])


def readiness_counts(service: SupervisedService) -> set[float]:
    """Return the numbers of requests of /readyz in the metrics that the processes show. All must show the sum."""

    def count(connection: http.client.HTTPConnection) -> float:
        text = get(connection, "/metrics")[1].decode()
        assert text.count("\nchalk_store_up ") == 1
        return parse_samples(text).get(("chalk_requests_total", "GET", "/readyz", "200"), 0.0)

    return set(service.from_each(count).values())


def test_cpu_time_and_memory_are_those_of_all_processes(service: SupervisedService) -> None:
    def read(connection: http.client.HTTPConnection) -> dict[tuple[str, ...], float]:
        return parse_samples(get(connection, "/metrics")[1].decode())

    members = [service.process.pid, *service.pids()]
    least = sum(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]) for pid in members)
    now = time.time()
    for samples in service.from_each(read).values():
        assert samples["process_cpu_seconds_total",] >= least / os.sysconf("SC_CLK_TCK")
        assert samples["process_resident_memory_bytes",] > 30e6
        assert samples["process_open_fds",] > 3 * 10
        assert samples["process_max_fds",] > 0
        assert now - 600 < samples["process_start_time_seconds",] < now


@pytest.mark.usefixtures("empty_store")
def test_every_core_has_a_process_by_default(start: StartCommand) -> None:
    count = len(os.sched_getaffinity(0))
    with start("serve", "--port", "0") as process:
        text = "Ctrl-C to stop" if count == 1 else f"{min(count, 64)} processes, Ctrl-C to stop"
        read_until(process.stderr, rf"Listening on \S+ \({text}\)")
        wait_patiently(lambda: len(processes_of(process.pid)) == (0 if count == 1 else min(count, 64)))
        assert stop_process(process) == 0


def test_supervisor_has_one_thread_because_it_forks(service: SupervisedService) -> None:
    wait_patiently(lambda: len([*Path(f"/proc/{service.process.pid}/task").iterdir()]) == 1)


def leader(service: SupervisedService, folder: Path) -> int:
    """Return the serving process that holds the lock of the webhook worker, or 0."""
    [lock] = folder.glob("chalk-data/webhooks-*.lock")
    inode = lock.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}") and int(fields[4]) in service.pids():
            return int(fields[4])
    return 0


def test_connections_of_a_dead_process_are_answered_while_none_replaces_it(
    service: SupervisedService, folder: Path
) -> None:
    (folder / "chalk.toml").write_text("threads = 'none'")  # so that no process can start
    killed = service.pids()[0]
    os.kill(killed, signal.SIGKILL)
    service.wait_for_log(r"threads cannot be 'none'")
    assert [service.get("/healthz")[0] for _ in range(20)] == [200] * 20
    (folder / "chalk.toml").write_text(SETTINGS)
    wait_for_processes(service, without=killed)


def test_reload_applies_new_settings_and_refuses_no_request(service: SupervisedService, folder: Path) -> None:
    config, statuses, is_over = folder / "chalk.toml", [], threading.Event()

    def request_until_over() -> None:
        while not is_over.is_set():
            statuses.append(service.get("/healthz")[0])

    clients = [threading.Thread(target=request_until_over) for _ in range(2)]
    former = service.pids()
    with connection_to_each(service.port, former) as connections:
        begin_long_polls(folder, connections.values())
        for client in clients:
            client.start()
        config.write_text(f"{SETTINGS}console = false\n")
        service.reload()
        assert [connection.getresponse().status for connection in connections.values()] == [200, 200]
    wait_patiently(lambda: len(service.pids()) == 2 and not {*former} & {*service.pids()})
    is_over.set()
    for client in clients:
        client.join()
    assert service.get("/login")[0] == 404
    assert len(statuses) > 20
    assert {*statuses} == {200}


def begin_long_polls(folder: Path, connections: Iterable[http.client.HTTPConnection]) -> None:
    """Send requests that are answered when the roster changes, or after a second."""
    _, token = new_token(folder)
    for connection in connections:
        feed = "/api/oneroster/v1p1/changes?since=latest&wait=1"
        connection.request("GET", feed, headers={"Authorization": f"Bearer {token}"})
    time.sleep(0.3)


def test_reload_of_settings_that_cannot_be_applied_changes_nothing(service: SupervisedService, folder: Path) -> None:
    former = service.pids()
    for line, reason in (
        ("console = 3", "console cannot be '3'"),
        ("host = '0.0.0.0'", "a reload cannot change host: restart the service"),
    ):
        (folder / "chalk.toml").write_text(SETTINGS + line)
        service.process.send_signal(signal.SIGHUP)
        service.wait_for_log(f'"service.reload_failed","process":[0-9]+,"reason":"{reason}')
    (folder / "chalk.toml").write_text(SETTINGS)
    assert service.pids() == former
    assert service.get("/healthz")[0] == 200


def test_active_requests_are_completed_at_the_end(folder: Path, tmp_path: Path) -> None:
    numbers = str(tmp_path / "numbers")
    with (
        supervised_service(folder, PROMETHEUS_MULTIPROC_DIR=numbers) as service,
        connection_to_each(service.port, service.pids()) as connections,
    ):
        begin_long_polls(folder, connections.values())
        service.process.terminate()
        assert [connection.getresponse().status for connection in connections.values()] == [200, 200]
        assert service.process.wait(60) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", service.port))
        assert "service.stopping" in service.log
        assert service.log.count("service.stopped") == 1
    # In a folder of the operator, process ids name the files. The numbers of streams are deleted with their process.
    kinds = ("counter", "counter_requests", "histogram_requests")
    files = {path.name for path in Path(numbers).iterdir()}
    assert files == {f"{kind}_{pid}.db" for kind in kinds for pid in connections}


@pytest.mark.parametrize("storage", ["memory:", "json:///store"])
def test_store_that_one_process_must_serve_is_rejected(storage: str, run: RunCommand) -> None:
    result = run("serve", "--processes", "2", "--port", "0", "--storage", storage)
    assert (result.code, result.out) == (2, "")
    kind = storage.partition(":")[0]
    assert result.err.startswith(f"Error: processes cannot be 2 for a store of the kind {kind}: set it to 1, or use")


@pytest.mark.usefixtures("empty_store")
def test_port_in_use_is_reported_as_with_one_process(run: RunCommand) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = run("serve", "--processes", "2", "--port", str(port))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"Error: cannot listen on host 127.0.0.1, port {port}: ")


def test_rejected_package_prevents_the_start(run: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "users.csv").write_text("nonsense\n")
    result = run("serve", "--processes", "2", "--port", "0", "--storage", "new.db", "--import", tmp_path / "package")
    assert result.code == 1
    assert "Rejected: nothing was changed." in result.err
    assert "Listening" not in result.err


@pytest.mark.usefixtures("empty_store")
def test_damaged_key_file_ends_the_start_with_one_message(run: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "chalk-data").mkdir()
    (tmp_path / "chalk-data" / "secrets.key").write_bytes(b"short")
    result = run("serve", "--processes", "2", "--port", "0")
    assert result.code == 1
    assert result.err.count("Error:") == 1
    assert "Listening" not in result.err


@pytest.mark.usefixtures("empty_store")
def test_start_that_fails_in_a_process_ends_with_its_message_and_code(start: StartCommand) -> None:
    with start("serve", "--processes", "2", "--port", "0", "--oidc-issuer", "https://id.example.org") as process:
        _, error = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 2
    assert error.startswith("Error: sign-in with an identity provider requires oidc_client_id")
    assert error.count("Error:") == 1


def test_one_process_notifies_systemd_and_ignores_a_reload(folder: Path, start: StartCommand, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(60)
        environ = {"NOTIFY_SOCKET": server.getsockname(), "WATCHDOG_USEC": "1000000"}
        with start(
            "serve", "--processes", "1", "--port", "0", "--storage", folder / "chalk.db", env=environ
        ) as process:
            assert server.recv(200) == b"READY=1"
            assert server.recv(200) == b"WATCHDOG=1"
            process.send_signal(signal.SIGHUP)
            read_until(process.stderr, "SIGHUP is ignored: one process cannot reload its settings")
            assert stop_process(process) == 0
        while (state := server.recv(200)) == b"WATCHDOG=1":
            continue
        assert state == b"STOPPING=1"


def test_service_starts_if_its_metrics_cannot_be_shared(tmp_path: Path) -> None:
    """The roster can be read while the disk is full, so a restart must not end the service."""
    (tmp_path / "chalk-data").mkdir(mode=0o700)
    (tmp_path / "chalk-data" / "metrics").symlink_to("/proc/sys")  # no user can create files in it
    with supervised_service(tmp_path) as service:
        service.wait_for_log("metrics.separate .*cannot be written")
        status, body = service.get("/metrics")
        assert (status, b"chalk_store_up 1" in body) == (200, True)
