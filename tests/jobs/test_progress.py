"""Progress of a job: phases, counts and expected rows, in a file that is replaced."""

from __future__ import annotations

from pathlib import Path

from chalk_flask.jobs.progress import ProgressFile, ProgressWriter
from tests.jobs.conftest import JobService
from tests.support.packages import PackageBuilder


def test_progress_lists_the_phases_so_far(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "job-1.json")
    assert file.read() is None
    write = ProgressWriter(file)
    for count in (1000, 2000, 2400):
        write("users", count, 5000)
    write("enrollments", 1000, None)
    progress = file.read()
    assert progress
    assert [(phase.name, phase.count, phase.total) for phase in progress.phases] == [
        ("users", 2400, 5000),
        ("enrollments", 1000, None),
    ]
    assert (progress.phase, progress.count, progress.total) == ("enrollments", 1000, None)
    assert progress.to_dict()["phases"][0]["name"] == "users"
    file.remove()
    assert file.read() is None
    assert list(tmp_path.iterdir()) == []


def test_progress_starts_again_when_an_import_compares_again(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "job-1.json")
    write = ProgressWriter(file)
    for phase in ("orgs", "users", "orgs"):
        write(phase, 1000, None)
    progress = file.read()
    assert progress
    assert [phase.name for phase in progress.phases] == ["orgs"]


def test_damaged_progress_file_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "job-1.json"
    for content in (b"", b"[]", b'{"phases": [{}]}', b"\xff"):
        path.write_bytes(content)
        assert ProgressFile(path).read() is None


def test_progress_that_cannot_be_written_does_not_stop_the_import(tmp_path: Path) -> None:
    ProgressWriter(ProgressFile(tmp_path / "missing" / "job-1.json"))("users", 1000, None)


def test_finished_job_has_no_progress(service: JobService) -> None:
    job = service.upload(PackageBuilder())
    assert service.jobs.progress(job) is None
    assert service.jobs.progress(service.run(job)) is None
    assert service.files() == []
