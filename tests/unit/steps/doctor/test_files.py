from __future__ import annotations

import pytest

from airflow_mlops_provider.steps.doctor.files import project_folder, read_files


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("file", "text", "tests", "builds"),
    [
        (".github/workflows/ci.yml", "run: pytest tests/unit", True, False),
        (".github/workflows/ci.yaml", "run: python -m build", False, True),
        (".github/workflows/ci.yml", "uses: docker/build-push-action@v6", False, True),
        (".gitlab-ci.yml", "script: [pip install -e .[dev], tox]", True, True),
        ("Jenkinsfile", "sh 'pip install .'", False, True),
        (".circleci/config.yml", "pip install requests==2.32", False, False),
        (".ci/run", "pip install --quiet \\\n  --editable '.[dev]'", False, True),
        (".ci/run", "pip install wheel; ./run.sh", False, False),
        (".ci/run", "make test", True, False),
    ],
)
def test_a_ci_file_tests_or_builds(tmp_path, file, text, tests, builds):
    write(tmp_path, {file: text})
    (found,) = read_files(tmp_path).ci
    assert (found.path, found.tests, found.builds) == (file, tests, builds)


def test_a_makefile_counts_where_ci_calls_make(tmp_path):
    write(tmp_path, {"Makefile": "all:\n\tpython -m build && pytest\n", ".ci/run": "make all"})
    (found,) = read_files(tmp_path).ci
    assert (found.tests, found.builds) == (True, True)
    write(tmp_path, {".ci/run": "true"})
    (found,) = read_files(tmp_path).ci
    assert (found.tests, found.builds) == (False, False)


def test_tests_are_told_apart_by_their_folder(tmp_path):
    names = (
        "tests/unit/test_a.py",
        "tests/integration/test_b.py",
        "tests/b_test.py",
        "package/ab_test.py",
        ".venv/test_c.py",
        "env/lib/test_d.py",
        "env/pyvenv.cfg",
        "node_modules/test_e.py",
    )
    write(tmp_path, dict.fromkeys(names, ""))
    (tmp_path / "tests" / "loop").symlink_to(tmp_path)
    found = read_files(tmp_path)
    assert found.unit_tests == ["tests/b_test.py", "tests/unit/test_a.py"]
    assert found.integration_tests == ["tests/integration/test_b.py"]
    assert not found.git


@pytest.mark.parametrize("mark", [".git/HEAD", "pyproject.toml"])
def test_the_project_is_the_nearest_repository_or_package(tmp_path, mark):
    dags = tmp_path / "p" / "pipelines" / "dags"
    write(tmp_path / "p", {mark: "", "pipelines/dags/a.py": ""})
    assert project_folder(dags) == tmp_path / "p"
