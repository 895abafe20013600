from __future__ import annotations

import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError, ServiceError
from airflow_mlops_provider.steps.pipeline_ci.git import Git
from tests.forges import ENVIRONMENT, git_of


@pytest.fixture
def git(forge, tmp_path):
    return git_of(forge.address, tmp_path / "mirror")


def test_commits_of_one_push_are_told_in_order(forge, git):
    seen = forge.pushed({"a": "0"})
    pushed = [forge.commit({"a": str(n)}) for n in (1, 2, 3)]
    forge.push()
    push = git.push_since("main", seen, git.head("main"), at_most=10)
    assert push.commits == tuple(pushed)
    assert not push.forced


def test_of_many_commits_the_newest_are_told(forge, git):
    seen = forge.pushed({"a": "0"})
    pushed = [forge.commit({"a": str(n)}) for n in (1, 2, 3)]
    forge.push()
    assert git.push_since("main", seen, pushed[-1], at_most=2).commits == tuple(pushed[1:])


def test_a_forced_push_tells_what_replaced_the_commits(forge, git):
    base = forge.pushed({"a": "0"})
    seen = forge.pushed({"a": "1"})
    git.push_since("main", base, seen, at_most=10)
    forge.git("reset", "--quiet", "--hard", base)
    replaced = [forge.commit({"a": str(n)}) for n in (2, 3)]
    forge.push("--force")
    push = git.push_since("main", seen, git.head("main"), at_most=10)
    assert push.commits == tuple(replaced)
    assert push.forced


def test_a_commit_that_nobody_has_any_more_leaves_the_head(forge, git):
    forge.pushed({"a": "0"})
    head = forge.pushed({"a": "1"})
    push = git.push_since("main", "0" * 40, head, at_most=10)
    assert push.commits == (head,)
    assert push.forced


def test_a_branch_set_back_by_hand_gives_the_commit_it_is_at(forge, git):
    base = forge.pushed({"a": "0"})
    seen = forge.pushed({"a": "1"})
    git.push_since("main", base, seen, at_most=10)
    forge.git("update-ref", "refs/heads/main", base, at="shop.git")
    push = git.push_since("main", seen, git.head("main"), at_most=10)
    assert push.commits == (base,)
    assert push.forced


def test_merged_commits_are_told_as_their_merge(forge, git):
    seen = forge.pushed({"a": "0"})
    forge.git("checkout", "--quiet", "-b", "side")
    forge.commit({"b": "1"})
    forge.git("checkout", "--quiet", "main")
    forge.git("merge", "--quiet", "--no-ff", "--message", "merge", "side")
    forge.push()
    head = git.head("main")
    assert git.push_since("main", seen, head, at_most=10).commits == (head,)


def test_a_commit_pushed_over_can_still_be_fetched(forge, git, tmp_path):
    base = forge.pushed({"a": "0"})
    lost = forge.pushed({"a": "1"}, message="Add one")
    forge.git("reset", "--quiet", "--hard", base)
    forge.commit({"a": "2"})
    forge.push("--force")
    info = git.info(lost)
    assert (info.commit, info.author, info.subject) == (lost, "Ada <ada@example.org>", "Add one")
    git.archive(lost, tmp_path / "lost.tar.gz")
    assert (tmp_path / "lost.tar.gz").stat().st_size > 0


def test_a_commit_may_have_no_message(forge, git):
    forge.pushed({"a": "0"})
    forge.git("commit", "--quiet", "--allow-empty", "--allow-empty-message", "--message", "")
    forge.push()
    assert git.info(git.head("main")).subject == ""


def test_a_hook_of_another_repository_leads_nowhere(forge, tmp_path):
    head = forge.pushed({"a": "0"})
    environment = {**ENVIRONMENT, "GIT_DIR": str(tmp_path / "other")}
    assert Git(forge.address, tmp_path / "mirror", environment).info(head).commit == head


def test_a_commit_that_is_not_there_is_an_error_that_names_it(forge, git):
    forge.pushed({"a": "0"})
    with pytest.raises(DataError, match=f"has no commit {'1' * 40}"):
        git.info("1" * 40)


def test_a_repository_that_does_not_answer_is_asked_again(tmp_path):
    git = git_of(f"file://{tmp_path}/nowhere.git", tmp_path / "mirror")
    with pytest.raises(ServiceError, match="git ls-remote failed for file://"):
        git.head("main")
    with pytest.raises(ServiceError, match="git ls-remote failed"):
        git.info("1" * 40)


def test_a_branch_that_is_not_there_is_named(forge, git):
    forge.pushed({"a": "0"})
    with pytest.raises(DataError, match="has no branch 'release'"):
        git.head("release")


@pytest.mark.parametrize("branch", ["", "--upload-pack=x", "a b", "a..b"])
def test_names_that_are_no_branch_never_reach_git(forge, git, branch):
    with pytest.raises(ParameterError, match="branch parameter"):
        git.head(branch)


@pytest.mark.parametrize(
    "address", ["", "--upload-pack=touch x", "ext::sh -c id", "https://ada:secret@example.org/x"]
)
def test_addresses_that_are_none_never_reach_git(address, tmp_path):
    with pytest.raises(ParameterError, match="repository parameter") as caught:
        git_of(address, tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("commit", ["main", "abc123", "-x", "Z" * 40])
def test_only_a_full_hash_is_a_commit(forge, git, commit):
    with pytest.raises(ParameterError, match="full hash"):
        git.info(commit)
