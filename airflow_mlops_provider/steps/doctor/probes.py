"""Questions to the facts of a project; a criterion is one of them or several combined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from airflow_mlops_provider.steps.doctor.facts import CiFile, DagFacts, ProjectFacts, TaskFacts

Status = Literal["met", "missing", "unknown"]


@dataclass(frozen=True)
class Answer:
    """What the facts say to a question."""

    status: Status
    evidence: tuple[str, ...] = ()
    reason: str | None = None
    """Of an answer that is not ``met``."""


Probe = Callable[[ProjectFacts], Answer]


def uses(*operators: str, beside: tuple[str, ...] = (), automatic: bool = False) -> Probe:
    """Ask for a task of one of ``operators`` or of a subclass of one.

    Args:
        *operators: Names of classes of this provider.
        beside: The same DAG must also have a task of one of these.
        automatic: A schedule, an asset or a watcher must start the DAG.
    """
    wanted = " or ".join(operators)
    where = " in a DAG" if beside or automatic else ""
    where += f" with {' or '.join(beside)}" if beside else ""
    how = " that starts by itself" if automatic else ""

    def ask(facts: ProjectFacts) -> Answer:
        found = [
            place(dag, task) + (f", {starts(dag)}" if automatic else "")
            for dag in sorted(facts.dags, key=lambda dag: starts(dag) is None)
            if (not automatic or starts(dag)) and (not beside or tasks_of(dag, beside))
            for task in tasks_of(dag, operators)
        ]
        return _found(found, f"no {wanted}{where}{how}")

    return ask


def woken_by(*schemes: str, operators: tuple[str, ...], emitters: tuple[str, ...]) -> Probe:
    """Ask whether a DAG with one of ``operators`` is started by assets that the project emits.

    Args:
        *schemes: URI schemes of the assets, such as ``mlops-drift``.
        operators: Names of classes, one of which the woken DAG has.
        emitters: Classes that emit such assets through an ``AssetAlias``; a task of any class
            counts that has such an asset among its outlets.
    """
    uris = tuple(f"{scheme}://" for scheme in schemes)

    def ask(facts: ProjectFacts) -> Answer:
        senders = list(_senders(facts, uris, emitters))
        woken = [
            f"{place(dag, task)}, started by {asset}"
            for dag in facts.dags
            for task in tasks_of(dag, operators)[:1]
            for asset in dag.assets
            if asset.startswith(uris)
        ]
        if not woken:
            return Answer(
                "missing",
                (),
                f"no {' or '.join(operators)} in a DAG started by {' or '.join(uris)} assets",
            )
        return _found(senders and [*woken, *senders], f"nothing emits {', '.join(uris)} assets")

    return ask


def service(name: str, kind: str) -> Probe:
    """Ask a service for evidence of a kind; one that did not answer leaves it unknown."""

    def ask(facts: ProjectFacts) -> Answer:
        known = facts.services.get(name)
        if known is None or known.state == "unknown" or kind not in known.found:
            reason = (known and known.reason) or "was not asked"
            return Answer("unknown", (), f"{name}: {reason}")
        return _found(
            [f"{name}: {each}" for each in known.found[kind]],
            f"{name} has no {kind.replace('_', ' ')}",
        )

    return ask


def version_control(facts: ProjectFacts) -> Answer:
    """Ask whether git keeps the project."""
    return _found([".git"] if facts.files.git else [], "the project is not in git")


def unit_tests(facts: ProjectFacts) -> Answer:
    """Ask for tests of the project's code."""
    return _found(facts.files.unit_tests, "no test_*.py in the project")


def integration_tests(facts: ProjectFacts) -> Answer:
    """Ask for tests that run parts together."""
    return _found(facts.files.integration_tests, "no tests in integration, dags or e2e folders")


def ci_tests(facts: ProjectFacts) -> Answer:
    """Ask for a CI file that runs tests."""
    return _ci(facts, lambda file: file.tests, "no CI file runs tests")


def ci_builds(facts: ProjectFacts) -> Answer:
    """Ask for a CI file that builds something."""
    return _ci(facts, lambda file: file.builds, "no CI file builds a package or an image")


def every(*probes: Probe) -> Probe:
    """Ask all of ``probes``; what one misses is missing."""

    def ask(facts: ProjectFacts) -> Answer:
        answers = [probe(facts) for probe in probes]
        status = _worst(answer.status for answer in answers)
        return Answer(status, _evidence(answers), _reasons(answers, "; "))

    return ask


def either(*probes: Probe) -> Probe:
    """Ask ``probes`` for any one that is met."""

    def ask(facts: ProjectFacts) -> Answer:
        answers = [probe(facts) for probe in probes]
        met = [answer for answer in answers if answer.status == "met"]
        if met:
            return Answer("met", _evidence(met))
        unknown = any(answer.status == "unknown" for answer in answers)
        return Answer(
            "unknown" if unknown else "missing", _evidence(answers), _reasons(answers, ", nor: ")
        )

    return ask


def tasks_of(dag: DagFacts, operators: tuple[str, ...]) -> list[TaskFacts]:
    """Return the tasks of a DAG that are of one of the classes."""
    return [task for task in dag.tasks if not set(operators).isdisjoint(task.classes)]


def starts(dag: DagFacts) -> str | None:
    """Say what starts a DAG without a person; None if nothing does."""
    causes = [f"schedule {dag.schedule}"] if dag.schedule else []
    causes += [*dag.assets, *dag.watchers]
    return f"started by {', '.join(causes)}" if causes else None


def place(dag: DagFacts, task: TaskFacts) -> str:
    """Say where a task is written down."""
    return f"{dag.file}:{dag.dag_id}:{task.task_id} ({task.operator})"


def _senders(
    facts: ProjectFacts, uris: tuple[str, ...], emitters: tuple[str, ...]
) -> Iterator[str]:
    for dag in facts.dags:
        if not starts(dag):
            continue
        aliased = [task for task in tasks_of(dag, emitters) if task.aliased]
        for task in dag.tasks:
            if task in aliased or any(outlet.startswith(uris) for outlet in task.outlets):
                yield f"{place(dag, task)} emits it"


def _ci(facts: ProjectFacts, good: Callable[[CiFile], bool], reason: str) -> Answer:
    return _found([file.path for file in facts.files.ci if good(file)], reason)


def _found(evidence: list[str], reason: str) -> Answer:
    return Answer("met", tuple(evidence)) if evidence else Answer("missing", (), reason)


def _worst(statuses: Iterator[Status]) -> Status:
    found = set(statuses)
    return "missing" if "missing" in found else "unknown" if "unknown" in found else "met"


def _evidence(answers: list[Answer]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for answer in answers for each in answer.evidence))


def _reasons(answers: list[Answer], between: str) -> str | None:
    return between.join(dict.fromkeys(each.reason for each in answers if each.reason)) or None
