"""Data that DVC itself tracks, and .dvc files as they should not be."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError, ServiceError
from airflow_mlops_provider.steps import extras
from airflow_mlops_provider.steps.card import DataCard
from airflow_mlops_provider.steps.dvc import pinned_parts, read_pointer
from airflow_mlops_provider.steps.snapshot import read_dataset, snapshot_dataset
from tests.servers import need

MD5 = "0123456789abcdef0123456789abcdef"


class Project:
    """Where the parts of a DVC repository lie."""

    def __init__(self, root: Path) -> None:
        self.root = root / "project"
        self.remote = root / "remote"
        self.cache = self.root / ".dvc" / "cache"
        self.config = self.root / ".dvc" / "config"
        self.flights = self.root / "data" / "flights.parquet"
        self.days = self.root / "data" / "days"
        self.pointers = [Path(f"{path}.dvc") for path in (self.flights, self.days)]

    def lose_workspace(self) -> None:
        self.flights.unlink()
        shutil.rmtree(self.days)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file and a folder that DVC tracks and has pushed to its remote."""
    need("dvc", "pip install dvc")
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("dvc")
    project = Project(root)
    project.days.mkdir(parents=True)
    pd.DataFrame({"n": [3, 4]}).to_parquet(project.flights)
    for day in (1, 2):
        pd.DataFrame({"n": [day]}).to_csv(project.days / f"{day}.csv.gz", index=False)
    (project.days / "README").write_text("two days")
    Repo.init(str(project.root), no_scm=True).close()
    settings = "[core]\nno_scm = true\nremote = store\n['remote \"store\"']\nurl = ../../remote\n"
    project.config.write_text(settings)
    with Repo(str(project.root)) as repo:
        repo.add([str(project.flights), str(project.days)])
        repo.push()
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Project:
    """A copy that a test may break."""
    return Project(Path(shutil.copytree(made, tmp_path / "dvc")))


def kept(source: object, tmp_path: Path, card: DataCard | None = None) -> tuple[str, list[int]]:
    ref = snapshot_dataset(str(source), name="d", workspace=f"{tmp_path}/w", card=card)
    return ref.source, sorted(read_dataset(ref)["n"])


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def in_workspace(project: Project) -> None:
    shutil.rmtree(project.cache)
    shutil.rmtree(project.remote)


def in_cache(project: Project) -> None:
    project.lose_workspace()
    shutil.rmtree(project.remote)


def in_old_cache(project: Project) -> None:
    in_cache(project)
    moved = project.cache.with_name("old")
    (project.cache / "files" / "md5").rename(moved)
    shutil.rmtree(project.cache)
    moved.rename(project.cache)


def in_shared_cache(project: Project) -> None:
    in_cache(project)
    project.cache.rename(project.root.parent / "shared")
    project.config.with_name("config.local").write_text("[cache]\n    dir = ../../shared\n")


def in_remote(project: Project) -> None:
    project.lose_workspace()
    shutil.rmtree(project.cache)


PLACES = [in_workspace, in_cache, in_old_cache, in_shared_cache, in_remote]


@pytest.mark.parametrize("place", PLACES)
def test_what_dvc_tracks_is_kept_wherever_it_lies_and_its_hash_recorded(
    project: Project, tmp_path: Path, place: Callable[[Project], None]
) -> None:
    place(project)
    flights, days = project.pointers
    md5s = [read_pointer(pointer).md5 for pointer in (flights, days)]
    assert kept(flights, tmp_path) == (f"{flights}@md5:{md5s[0]}", [3, 4])
    assert kept(days, tmp_path) == (f"{days}@md5:{md5s[1]}", [1, 2])
    assert md5s[1].endswith(".dir")


def test_the_data_card_names_the_recorded_hash(project: Project, tmp_path: Path) -> None:
    card, pointer = DataCard(), project.pointers[0]
    ref = snapshot_dataset(str(pointer), name="d", workspace=f"{tmp_path}/w", card=card)
    assert f"{pointer}@md5:{read_pointer(pointer).md5}" in card.html(ref, {})


def rewritten(project: Project) -> Path:
    pd.DataFrame({"n": [9]}).to_parquet(project.flights)
    return project.pointers[0]


def a_folder_instead(project: Project) -> Path:
    project.flights.unlink()
    shutil.copytree(project.days, project.flights)
    return project.pointers[0]


def one_less(project: Project) -> Path:
    (project.days / "1.csv.gz").unlink()
    return project.pointers[1]


def one_more(project: Project) -> Path:
    (project.days / "3.csv").write_text("n\n3\n")
    return project.pointers[1]


@pytest.mark.parametrize("change", [rewritten, a_folder_instead, one_less, one_more])
def test_data_that_are_not_what_is_recorded_are_refused(
    project: Project, tmp_path: Path, change: Callable[[Project], Path]
) -> None:
    pointer = change(project)
    recorded = read_pointer(pointer).md5
    said = rf"expected md5 {recorded}, found [0-9a-f]{{32}}.*dvc checkout .*dvc commit"
    with pytest.raises(DataError, match=said):
        kept(pointer, tmp_path)


def test_a_broken_cache_is_told_from_a_changed_file(project: Project, tmp_path: Path) -> None:
    in_cache(project)
    for path in project.cache.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"broken")
    for pointer in project.pointers:
        with pytest.raises(DataError, match=r"cache.* expected md5 .*Delete it there"):
            kept(pointer, tmp_path)


def test_data_that_are_nowhere_are_told_with_what_to_do(project: Project, tmp_path: Path) -> None:
    in_remote(project)
    shutil.rmtree(project.remote)
    with pytest.raises(DataError, match=r"flights.parquet is neither in the workspace.*dvc push"):
        kept(project.pointers[0], tmp_path)


def test_a_folder_whose_cache_lacks_a_file_is_fetched(project: Project, tmp_path: Path) -> None:
    md5 = md5_of((project.days / "1.csv.gz").read_bytes())
    project.lose_workspace()
    (project.cache / "files" / "md5" / md5[:2] / md5[2:]).unlink()
    assert kept(project.pointers[1], tmp_path)[1] == [1, 2]
    assert not project.days.exists()


def test_without_dvc_one_learns_what_to_install(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str) -> None:
        raise ModuleNotFoundError(module)

    in_remote(project)
    monkeypatch.setattr(extras.importlib, "import_module", missing)
    said = r"Expected the Python module dvc.repo to fetch .*dvc pull.*airflow-provider-mlops\[dvc\]"
    with pytest.raises(ParameterError, match=said):
        kept(project.pointers[0], tmp_path)


def test_a_remote_that_does_not_answer_may_be_tried_again(project: Project, tmp_path: Path) -> None:
    in_remote(project)
    project.config.write_text(project.config.read_text().replace("store\n", "gone\n", 1))
    with pytest.raises(ServiceError, match=r"DVC could not fetch .*flights.parquet.*gone"):
        kept(project.pointers[0], tmp_path)


def test_a_text_file_of_dvc_2_has_the_hash_of_its_unix_lines(tmp_path: Path) -> None:
    md5 = md5_of(b"n\n1\n")
    (tmp_path / "a.csv").write_bytes(b"n\r\n1\r\n")
    pointer = tmp_path / "a.csv.dvc"
    pointer.write_text(f"outs:\n- md5: {md5}\n  path: a.csv\n")
    assert kept(pointer, tmp_path) == (f"{pointer}@md5:{md5}", [1])
    pointer.write_text(f"outs:\n- md5: {md5}\n  hash: md5\n  path: a.csv\n")
    with pytest.raises(DataError, match=f"expected md5 {md5}"):
        kept(pointer, tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("outs: [", "expected YAML: .*line 1"),
        (b"\xff\xfe", "expected YAML: "),
        ("", "expected a YAML mapping, got NoneType"),
        ("deps: []", "expected one entry under `outs`, got none"),
        ("outs: []", "expected one entry under `outs`, got 0"),
        (f"outs: [{{md5: {MD5}, path: a}}, {{md5: {MD5}, path: b}}]", "got 2"),
        ("outs: [a.csv]", "expected one entry under `outs`"),
        (f"outs: [{{md5: {MD5}}}]", "expected a path under `outs`, got None"),
        ("outs: [{path: a.csv}]", "expected an md5 .* for a.csv, got None"),
        ("outs: [{path: a.csv, md5: abc}]", "expected an md5 .* got 'abc'"),
        (f"outs: [{{path: ../../a.csv, md5: {MD5}}}]", r"path inside .*repo, got '../../a.csv'"),
        (f"outs: [{{path: /etc/passwd, md5: {MD5}}}]", r"path inside .*repo, got '/etc/passwd'"),
    ],
)
def test_what_is_no_dvc_file_is_told_what_it_lacks(
    tmp_path: Path, text: str | bytes, problem: str
) -> None:
    (tmp_path / "repo" / ".dvc").mkdir(parents=True)
    pointer = tmp_path / "repo" / "data" / "a.csv.dvc"
    pointer.parent.mkdir()
    pointer.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=rf"Cannot use .*a.csv.dvc as a .dvc file: .*{problem}"):
        pinned_parts(str(pointer))


def test_a_dvc_file_may_name_what_lies_elsewhere_in_its_repository(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    pointer = tmp_path / "pointers" / "a.dvc"
    pointer.parent.mkdir()
    pointer.write_text(f"wdir: ..\nouts: [{{path: data/a.csv, md5: {MD5}}}]")
    assert read_pointer(pointer).target == tmp_path / "data" / "a.csv"


def test_where_no_dvc_file_can_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No file at .*\*\.dvc\. Expected one .dvc file"):
        pinned_parts(f"{tmp_path}/*.dvc")
    with pytest.raises(ParameterError, match=r"on a local disk if it is a \.dvc file"):
        pinned_parts("memory://data/a.csv.dvc")


def test_without_a_repository_nothing_is_looked_for_elsewhere(tmp_path: Path) -> None:
    pointer = tmp_path / "a.csv.dvc"
    pointer.write_text(f"outs: [{{path: a.csv, md5: {MD5}}}]")
    with pytest.raises(DataError, match=rf"a.csv is neither .* data of md5 {MD5}"):
        pinned_parts(str(pointer))


def test_a_folder_called_like_a_dvc_file_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "days.dvc"
    folder.mkdir()
    (folder / "a.csv").write_text("n\n1\n")
    assert kept(folder, tmp_path) == (str(folder), [1])


def test_a_broken_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("dir = nowhere")
    pointer = tmp_path / "a.csv.dvc"
    pointer.write_text(f"outs: [{{path: a.csv, md5: {MD5}}}]")
    with pytest.raises(DataError, match=r"configuration of DVC in .*\.dvc"):
        pinned_parts(str(pointer))
