from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from airflow_mlops_provider.exceptions import (
    DataError,
    ParameterError,
    PipelineStageError,
    RegistryConflictError,
    ServiceError,
)
from airflow_mlops_provider.records import PipelinePromotion


def test_a_promotion_moves_the_ref_and_tells_of_it(delivery, commits):
    first, good, _ = commits
    promotion = delivery.promote(good, known_errors=["old.py"])
    assert delivery.at() == good
    assert (promotion.previous, promotion.by) == (first, "cd run-1")
    assert delivery.ledger().look().entry == promotion
    assert PipelinePromotion.from_xcom(promotion.to_xcom()).known_errors == ["old.py"]


def test_a_ref_that_was_not_there_is_made(delivery):
    commit = delivery.forge.pushed({"file": "1"})
    assert delivery.promote(commit).previous is None
    assert delivery.at() == commit


def test_a_tag_can_be_followed(delivery, commits):
    delivery.environment = replace(delivery.environment, ref="refs/tags/production")
    delivery.promote(commits[1])
    delivery.promote(commits[0])  # back: no fast-forward
    told = delivery.forge.git("ls-remote", "origin", "refs/tags/production")
    assert told.split()[0] == commits[0]


def test_a_retry_after_the_push_goes_on(delivery, commits):
    pushed = delivery.promote(commits[1])
    assert delivery.promote(commits[1]) == pushed
    assert delivery.promote(commits[1], by="cd run-2") == pushed


def test_a_killed_worker_leaves_both_or_none(delivery, commits, monkeypatch):
    ledger = delivery.ledger()
    run = ledger._git

    def dies(arguments):
        ended = run(arguments)
        if arguments[0] == "push":
            raise KeyboardInterrupt
        return ended

    monkeypatch.setattr(ledger, "_git", dies)
    with pytest.raises(KeyboardInterrupt):
        delivery.promote(commits[1], ledger=ledger)
    assert delivery.at() == commits[1]
    again = delivery.promote(commits[1])
    assert again.previous == commits[0]
    assert delivery.roll_back(commits[1]).commit == commits[0]


def test_a_push_whose_answer_was_lost_is_ours(delivery, commits, monkeypatch):
    ledger = delivery.ledger()
    said = ledger._is_true
    monkeypatch.setattr(ledger, "_is_true", lambda *all_: said(*all_) and all_[0] != "push")
    assert delivery.promote(commits[1], ledger=ledger).commit == commits[1]


def test_a_ref_moved_by_hand_is_left_and_named(delivery, commits):
    delivery.promote(commits[1])
    delivery.set_by_hand(commits[0])
    message = f"moved by hand: it is at {commits[0][:7]}.* by Ada <ada@example.org>.*run-1 left it"
    with pytest.raises(RegistryConflictError, match=message):
        delivery.promote(commits[2])
    with pytest.raises(RegistryConflictError, match="moved by hand"):
        delivery.roll_back(commits[1])
    assert delivery.at() == commits[0]


def test_a_deleted_ref_was_moved_by_hand(delivery, commits):
    delivery.promote(commits[1])
    delivery.forge.git("push", "--quiet", "origin", ":refs/heads/production")
    with pytest.raises(RegistryConflictError, match="it is gone"):
        delivery.promote(commits[2])


def test_a_move_by_hand_can_be_accepted(delivery, commits):
    delivery.promote(commits[1])
    delivery.set_by_hand(commits[0])
    promotion = delivery.promote(commits[2], expected=commits[0])
    assert (promotion.previous, delivery.at()) == (commits[0], commits[2])


def test_what_was_expected_has_to_be_there(delivery, commits):
    with pytest.raises(RegistryConflictError, match="`expected` parameter says"):
        delivery.promote(commits[2], expected=commits[1])


def test_of_two_promotions_at_once_one_loses_and_says_to_whom(delivery, commits, monkeypatch):
    late = delivery.ledger()
    looked = late.look()
    monkeypatch.setattr(late, "look", lambda now=late.look, seen=[looked]: (seen or [now()]).pop())
    delivery.promote(commits[1], by="cd rival")
    with pytest.raises(RegistryConflictError, match=r"was moved while.*by cd rival"):
        delivery.promote(commits[2], ledger=late)
    assert delivery.at() == commits[1]


def test_rivals_in_parallel_leave_one_move_each(delivery, commits):
    def attempt(number):
        try:
            return delivery.promote(commits[number], by=f"cd {number}")
        except RegistryConflictError:
            return None

    with ThreadPoolExecutor(2) as pool:
        won = [each for each in pool.map(attempt, (1, 2)) if each]
    last = delivery.ledger().look()
    assert won
    assert last.commit == last.entry.commit == delivery.at()
    assert last.entry in won


def test_a_roll_back_moves_the_ref_to_where_it_was_once(delivery, commits):
    delivery.promote(commits[1], by="cd earlier")
    delivery.promote(commits[2])
    moved = delivery.roll_back(commits[2])
    assert (moved.kind, moved.commit, delivery.at()) == ("rollback", commits[1], commits[1])
    assert delivery.roll_back(commits[2]) == moved


def test_a_version_can_be_promoted_again_after_a_roll_back(delivery, commits):
    entries = [delivery.promote(commits[1]), delivery.roll_back(commits[1])]
    entries.append(delivery.promote(commits[1], by="cd run-2"))
    assert delivery.at() == commits[1]
    assert len({each.entry for each in entries}) == 3


@pytest.mark.parametrize("by", ["cd run-1", "cd other"])
def test_only_what_this_run_moved_is_moved_back(delivery, commits, by):
    assert delivery.roll_back(commits[0], by=by) is None  # there is no ledger
    delivery.promote(commits[1], by="cd somebody")
    assert delivery.roll_back(commits[1], by=by) is None
    assert delivery.roll_back(commits[2], by=by) is None
    assert delivery.at() == commits[1]


def test_a_first_version_has_nothing_to_go_back_to(delivery):
    commit = delivery.forge.pushed({"file": "1"})
    delivery.promote(commit)
    with pytest.raises(PipelineStageError, match="no earlier version"):
        delivery.roll_back(commit)


def test_a_version_that_was_forced_away_can_be_gone_back_to(delivery, commits):
    forge = delivery.forge
    delivery.promote(commits[2])
    forge.git("reset", "--quiet", "--hard", commits[0])
    rewritten = forge.commit({"file": "another"})
    forge.push("--force")
    delivery.promote(rewritten, by="cd run-2")
    forge.git("gc", "--quiet", "--prune=now", at="shop.git")
    assert delivery.roll_back(rewritten, by="cd run-2").commit == commits[2]
    assert delivery.at() == commits[2]


def test_a_commit_that_nobody_has_is_refused(delivery, commits):
    with pytest.raises(DataError, match="has commit ffffffff"):
        delivery.promote("f" * 40)
    with pytest.raises(ParameterError, match="full commit hash"):
        delivery.promote("main")
    assert delivery.at() == commits[0]


def test_a_forge_that_takes_no_push_may_take_it_later(delivery, commits):
    hook = delivery.forge.folder / "shop.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho protected branch\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(ServiceError, match="protected branch"):
        delivery.promote(commits[1])
    assert delivery.at() == commits[0]


def test_a_forge_that_does_not_answer_may_answer_later(delivery, commits):
    (delivery.forge.folder / "shop.git").rename(delivery.forge.folder / "away")
    with pytest.raises(ServiceError, match="git ls-remote failed"):
        delivery.promote(commits[1])


def test_a_ledger_that_somebody_else_wrote_is_refused(delivery, commits):
    ledger = "refs/mlops/environments/production"
    delivery.forge.git("push", "--quiet", "origin", f"{commits[0]}:{ledger}")
    with pytest.raises(DataError, match="no entry of a ledger"):
        delivery.promote(commits[1])


@pytest.mark.parametrize("ref", ["", "-x", "a..b", "refs/pull/1", "a b", "a.lock", "x:y"])
def test_a_ref_that_no_bundle_tracks_is_refused(delivery, ref):
    delivery.environment = replace(delivery.environment, ref=ref)
    with pytest.raises(ParameterError, match="ref parameter of PipelineEnvironment"):
        delivery.ledger()
