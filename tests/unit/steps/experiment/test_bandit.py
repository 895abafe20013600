from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.experiment.bandit import (
    Rewards,
    probabilities_best,
    seed_of,
    whole_percents,
)
from airflow_mlops_provider.steps.experiment.bandit_plan import BanditPlan
from airflow_mlops_provider.steps.experiment.bandit_rollout import BANDIT
from airflow_mlops_provider.steps.experiment.looking import take_look
from airflow_mlops_provider.steps.rollout.drive import begin, tick
from tests.experiments import START, LoggingTarget

ARMS = ("v1", "v2", "v3")
EQUAL = dict.fromkeys(ARMS, 0.0)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda shares: sum(shares) > 1e-6),
    st.integers(1, 12),
)
def test_weights_are_whole_percents_above_the_floor(shares, floor):
    named = {f"v{i}": share for i, share in enumerate(shares)}
    weights = whole_percents(named, floor)
    assert sum(weights.values()) == 100
    assert min(weights.values()) >= floor
    free, total = 100 - floor * len(shares), sum(shares)
    for name, share in named.items():
        assert abs(weights[name] - floor - free * share / total) < 1


def test_the_probability_of_two_beta_arms_is_the_exact_one():
    # P(Beta(6, 2) > Beta(3, 5)) by integration over a grid
    grid = np.linspace(0, 1, 20_001)[1:-1]
    density = grid**5 * (1 - grid)
    other = np.cumsum(grid**2 * (1 - grid) ** 4)
    exact = float((density * other / other[-1]).sum() / density.sum())
    rewards = {"a": Rewards(n=6, total=5, squares=5), "b": Rewards(n=6, total=2, squares=2)}
    chances = probabilities_best(rewards, reward="bernoulli", direction="increase", seed=1)
    assert chances["a"] == pytest.approx(exact, abs=0.01)
    assert sum(chances.values()) == pytest.approx(1)


@pytest.mark.parametrize("reward", ["bernoulli", "normal"])
def test_without_rewards_all_arms_are_alike(reward):
    rewards = dict.fromkeys(ARMS, Rewards())
    chances = probabilities_best(rewards, reward=reward, direction="increase", seed=1)
    assert all(chance == pytest.approx(1 / 3, abs=0.02) for chance in chances.values())


def test_the_direction_turns_normal_arms_around():
    rng = np.random.default_rng(1)
    rewards = {
        name: Rewards.of(rng.normal(mean, 1, 200), np.zeros(200), None)
        for name, mean in {"a": 0.0, "b": 0.5}.items()
    }
    up = probabilities_best(rewards, reward="normal", direction="increase", seed=1)
    down = probabilities_best(rewards, reward="normal", direction="decrease", seed=1)
    assert up["b"] > 0.99
    assert down["a"] > 0.99


def test_an_arm_without_rewards_stays_likely_enough_to_be_tried():
    rng = np.random.default_rng(1)
    known = Rewards.of(rng.normal(3, 1, 500), np.zeros(500), None)
    chances = probabilities_best(
        {"a": known, "b": Rewards()}, reward="normal", direction="increase", seed=1
    )
    assert 0.2 < chances["b"] < 0.8


def test_the_same_look_of_the_same_run_draws_the_same():
    rewards = {"a": Rewards(n=9, total=5, squares=5), "b": Rewards(n=9, total=4, squares=4)}
    options = {"reward": "bernoulli", "direction": "increase"}
    draws = [probabilities_best(rewards, seed=seed_of("run", 3), **options) for _ in range(2)]
    assert draws[0] == draws[1]
    assert len({seed_of(run, look) for run in ("a", "b") for look in range(50)}) == 100


def test_old_rewards_fade():
    rewards = Rewards.of([1.0, 0.0], [0.0, 3600.0], 3600.0)
    assert (rewards.n, rewards.total) == (1.5, 1.0)


def plan(**knobs):
    defaults = {
        "arms": "['v1', 'v2', 'v3']",
        "reward": "normal",
        "look_seconds": 60,
        "max_seconds": 3600,
        "seed": "run",
    }
    return BanditPlan.of(**{**defaults, **knobs})


@pytest.fixture
def target(tmp_path):
    made = LoggingTarget().start(tmp_path / "log")
    made.create_deployment("e", "v2", "models:/m/2")
    return made


class Run:
    """Drives a bandit second by second, as trigger and worker do."""

    def __init__(self, target, asked):
        self.target, self.plan, self.now, self.source = target, asked, START, target.rows
        self.state = begin(target, "e", asked, self.now)
        self.weights = []

    def step(self, means, requests=40):
        self.target.play(self.now, requests, means)
        self.now += self.plan.interval_seconds
        self.state = tick(self.target, "e", self.plan, self.now)
        if self.state.for_worker:
            self.state = take_look(
                BANDIT,
                self.target,
                "e",
                self.plan,
                self.state,
                log=str(self.target.folder),
                outcomes=self.source,
                rotate=True,
                now=self.now,
            )
            self.weights.append(dict(self.state.weights))
        return self.state

    def to_the_end(self, means):
        for _ in range(400):
            if self.step(means).ended:
                return self.state.verdict("e")
        raise AssertionError(self.state)


def test_the_best_arm_gets_the_traffic_and_then_all_of_it(target):
    run = Run(target, plan())
    verdict = run.to_the_end({"v1": 0.0, "v2": 0.2, "v3": 1.0})
    assert (verdict.state, verdict.finding, verdict.candidate) == ("SUCCEEDED", "best", "v3")
    assert target.traffic == {"v3": 100}
    assert run.weights[-2]["v3"] == 90
    assert run.weights[-2]["v1"] == 5
    assert target.rollout["history"][-1]["probabilities"]["v3"] >= 0.95


def test_a_champion_that_is_the_best_keeps_its_traffic(target):
    verdict = Run(target, plan()).to_the_end({"v1": 1.0, "v2": 0.0, "v3": 0.0})
    assert (verdict.state, verdict.finding, verdict.candidate) == ("ROLLED_BACK", "best", "v1")
    assert target.traffic == {"v1": 100}


def test_arms_that_are_alike_end_on_the_champion(target):
    verdict = Run(target, plan(max_seconds=200, stop_at=0.999)).to_the_end(EQUAL)
    assert (verdict.state, verdict.finding) == ("ROLLED_BACK", "undecided")
    assert target.traffic == {"v1": 100}


def test_weights_wait_for_rewards_of_every_arm(target):
    run = Run(target, plan(min_units=10**6))
    while len(run.weights) < 2:
        run.step({"v1": 0.0, "v2": 0.0, "v3": 5.0})
    assert sorted(run.weights[-1].values()) == [33, 33, 34]
    assert run.state.streak == 0


def test_an_arm_that_fails_ends_the_bandit(target):
    run = Run(target, plan())
    for _ in range(3):
        run.step(EQUAL)
    target.count("v3", 100, errors=80)
    verdict = run.to_the_end(EQUAL)
    assert verdict.finding == "stopped"
    assert "requests of v3 failed" in verdict.reason


def test_errors_from_before_the_bandit_are_not_held_against_an_arm(target):
    target.count("v1", 100, errors=100)
    run = Run(target, plan())
    for _ in range(8):
        run.step(EQUAL)
    assert run.state.state == "STEP"


def test_traffic_that_somebody_moved_pauses_it(target):
    run = Run(target, plan())
    for _ in range(3):
        run.step(EQUAL)
    target.set_traffic("e", {"v1": 98, "v2": 1, "v3": 1}, generation=target.generation)
    assert run.step(EQUAL).state == "PAUSED"
    again = begin(target, "e", run.plan, run.now)
    assert (again.state, again.started, again.weights["v1"]) == ("STEP", None, 98)


def test_a_source_that_stays_away_ends_it(target):
    run = Run(target, plan())

    def away(start, end):
        raise OSError("no route")

    run.source = away
    verdict = run.to_the_end(EQUAL)
    assert verdict.finding == "stopped"
    assert "no route" in verdict.reason


@pytest.mark.parametrize(
    ("knobs", "named"),
    [
        ({"arms": "v1"}, "deployments"),
        ({"arms": ("v1", "v1")}, "deployments"),
        ({"min_weight": 34}, "min_weight"),
        ({"stop_at": 1}, "stop_at"),
        ({"half_life_seconds": 0}, "half_life_seconds"),
        ({"interval_seconds": 500}, "interval_seconds"),
    ],
)
def test_each_wrong_knob_is_named(knobs, named):
    with pytest.raises(ParameterError, match=named):
        plan(**knobs)


def test_an_arm_that_is_not_deployed_is_refused(target):
    with pytest.raises(ParameterError, match="v9"):
        begin(target, "e", plan(arms=("v1", "v9")), START)


def test_a_plan_survives_its_json():
    asked = plan(half_life_seconds="3600")
    assert BANDIT.plan(asked.to_xcom()) == asked
