"""A study: the trials of one search, kept where every worker and every retry finds them.

The journal is a file of the workspace, appended to under Optuna's own lock. A worker holds a
file lock for as long as its trial runs, which the kernel gives up with the process: so a trial
that is left RUNNING is known to be dead at once. A database has Optuna's heartbeat instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from fsspec.core import url_to_fs
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from airflow_mlops_provider.exceptions import DataError, ParameterError, ServiceError
from airflow_mlops_provider.steps.tune.trials import COMPLETE, FAIL, INTERRUPTED, PRUNED, Trial
from airflow_mlops_provider.workspace import checked_name, join

if TYPE_CHECKING:
    from airflow_mlops_provider.records import SearchSpec, TrainingSpec

HEARTBEAT_SECONDS, GRACE_SECONDS = 10, 60
ERROR, SURPLUS = "error", "surplus"
_IDENTITY, _UID, _DEATHS = "identity", "uid", "deaths"
_DEATHS_ALLOWED = 2
_TRIES, _TRY_SECONDS = 10, 0.3
_NOT_OF_THE_SCORE = ("serialization", "trusted_types", "code_paths")
_BROKEN = (ValueError, KeyError, TypeError, AttributeError, AssertionError, IndexError)
"""What Optuna raises on a journal that is none."""
_State = optuna.trial.TrialState
_ENDED = {_State.COMPLETE: COMPLETE, _State.PRUNED: PRUNED, _State.FAIL: FAIL}


@dataclass(frozen=True)
class StudyPlace:
    """Where a study is kept: in a folder, or in a database."""

    name: str
    folder: str | None
    url: str | None = None

    def open(self) -> optuna.Study:
        """Return the study, with all trials that it has by now.

        Raises:
            DataError: the journal is broken, or is none.
            ServiceError: the database does not answer.
        """
        return optuna.load_study(study_name=self.name, storage=self.storage())

    def storage(self) -> optuna.storages.BaseStorage:
        """Return Optuna's storage of the study."""
        if self.folder is None:
            return self._database()
        try:
            return optuna.storages.JournalStorage(JournalFileBackend(str(self.journal)))
        except _BROKEN as error:
            raise _no_journal(self.journal, repr(error)) from error

    def _database(self) -> optuna.storages.BaseStorage:
        from sqlalchemy.exc import OperationalError
        from sqlalchemy.pool import NullPool

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            again = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=_DEATHS_ALLOWED)
            try:
                return optuna.storages.RDBStorage(
                    str(self.url),
                    engine_kwargs={"poolclass": NullPool},
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                    heartbeat_stale_trial_callback=again,
                )
            except OperationalError as error:
                raise ServiceError(
                    f"The database of study {self.name!r} does not answer: {error.orig}."
                ) from error

    @property
    def journal(self) -> Path:
        """The file that holds the trials."""
        return Path(str(self.folder), "journal.log")

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Keep other workers from taking a trial; a database leaves that to the count after."""
        if self.folder is None:
            yield
            return
        with Path(self.folder, "claim.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def holding(self, number: int) -> Iterator[None]:
        """Show that the worker of a trial lives."""
        if self.folder is None:
            yield
            return
        path = self._held(number)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
            path.unlink()

    def lives(self, number: int) -> bool:
        """Tell whether the worker of a trial lives."""
        if self.folder is None:
            return True
        try:
            with self._held(number).open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def _held(self, number: int) -> Path:
        return Path(str(self.folder), f"trial-{number}.lock")


def identity_of(spec: TrainingSpec, search: SearchSpec, scoring: str) -> dict[str, Any]:
    """Return what decides the score of a trial, by the names of the operator's arguments."""
    shaping = asdict(spec)
    for name in ("dataset", "params", *_NOT_OF_THE_SCORE):
        del shaping[name]
    return {
        **shaping,
        "dataset": spec.dataset.logical_hash,
        "estimator_params": spec.params,
        "search_space": search.space,
        "scoring": scoring,
        "cv": search.cv,
        "group_column": search.group_column,
        "n_splits": search.n_splits,
        "seed": search.seed,
    }


def name_of(identity: Mapping[str, Any]) -> str:
    """Return the name of the study that an unnamed search belongs to."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def place_of(name: str, workspace: str, url: str | None) -> StudyPlace:
    """Return where a study of this workspace is kept.

    Raises:
        ParameterError: the name cannot be a folder's, or the workspace is an object store, which
            files cannot be appended to, and no database is given.
    """
    checked_name(name, "study", "tune")
    if url:
        return StudyPlace(name, None, url)
    fs, folder = url_to_fs(join(workspace, "studies", name))
    if "file" not in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        raise ParameterError(
            f"Expected a workspace on a file system to keep the trials of Optuna in, got "
            f"{workspace!r}. Name the Connection of a database as `storage_conn_id`."
        )
    return StudyPlace(name, folder)


def create(place: StudyPlace, identity: Mapping[str, Any]) -> optuna.Study:
    """Return the study at ``place``, made if need be.

    Raises:
        DataError: its journal is broken, or is none.
        ParameterError: it holds trials of another search; the message says what differs.
    """
    if place.folder is not None:
        Path(place.folder).mkdir(parents=True, exist_ok=True)
        _mend(place.journal)
    wanted = json.loads(json.dumps(identity, default=str))
    with place.claiming():
        study = _made(place, wanted)
    _check_identity(study, wanted)
    return study


def _made(place: StudyPlace, identity: Mapping[str, Any]) -> optuna.Study:
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    for _ in range(_TRIES):
        try:
            with suppress(KeyError):
                return place.open()
            made = optuna.create_study(
                study_name=place.name, storage=place.storage(), direction="maximize"
            )
            made.set_user_attr(_IDENTITY, identity)
            made.set_user_attr(_UID, uuid.uuid4().hex)
            return made
        except (IntegrityError, ProgrammingError, optuna.exceptions.DuplicatedStudyError):
            time.sleep(_TRY_SECONDS)  # another worker is making the tables, or the study
    return place.open()


def _mend(journal: Path) -> None:
    """Cut off the line that a worker could not end, because the disk was full, say."""
    if not journal.exists():
        return
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        whole, newline, torn = journal.read_bytes().rpartition(b"\n")
        for line in whole.splitlines():
            _check_line(journal, line)
        if torn.startswith(b"{"):
            with journal.open("r+b") as file:
                file.truncate(len(whole + newline))
    finally:
        lock.release()


def _check_line(journal: Path, line: bytes) -> None:
    """Refuse what is no entry of Optuna's, which would be found out only after the next one."""
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise _no_journal(journal, str(error)) from error
    if not isinstance(entry, dict) or "op_code" not in entry:
        raise _no_journal(journal, repr(entry)[:80])


def _no_journal(journal: Path, why: str) -> DataError:
    return DataError(
        f"Expected a journal of Optuna in {str(journal)!r}, got what it cannot read: {why}. Move "
        "the file away to begin the study anew, or name another `study`."
    )


def _check_identity(study: optuna.Study, wanted: Mapping[str, Any]) -> None:
    for _ in range(_TRIES):
        if _UID in study.user_attrs:
            break
        time.sleep(_TRY_SECONDS)  # its maker has not written yet what it is
    stored = study.user_attrs.get(_IDENTITY, {})
    differing = [key for key, value in wanted.items() if stored.get(key, ...) != value]
    if differing:
        pairs = "; ".join(f"{key}: {stored.get(key)!r}, now {wanted[key]!r}" for key in differing)
        raise ParameterError(
            f"Expected study {study.study_name!r} to hold trials of this search, but it was made "
            f"with another {', '.join(differing)} ({pairs}). Name another `study`, or leave it "
            "out."
        )


def uid_of(study: optuna.Study) -> str:
    """Return what tells this study from another one of the same name."""
    return str(study.user_attrs[_UID])


def taken(trials: Sequence[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
    """Return the trials that run or came to an end of their own."""
    return [each for each in trials if each.state == _State.RUNNING or _ended(each)]


def _ended(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.state in _ENDED and (trial.state != _State.FAIL or ERROR in trial.user_attrs)


def trials_of(study: optuna.Study) -> list[Trial]:
    """Return the trials that ended, or that a dead worker left."""
    return [
        trial_of(each)
        for each in study.get_trials(deepcopy=False)
        if each.state in _ENDED and SURPLUS not in each.user_attrs
    ]


def trial_of(frozen: optuna.trial.FrozenTrial) -> Trial:
    """Return what we keep of a trial of Optuna's."""
    ended = _ended(frozen)
    seconds = frozen.duration.total_seconds() if ended and frozen.duration else None
    return Trial(
        number=frozen.number,
        params=frozen.params,
        state=_ENDED[frozen.state] if ended else INTERRUPTED,
        score=frozen.value if frozen.state == _State.COMPLETE else None,
        seconds=seconds,
        fold_scores=[score for _, score in sorted(frozen.intermediate_values.items())],
        error=frozen.user_attrs.get(ERROR),
    )


def reclaim(place: StudyPlace, study: optuna.Study) -> int:
    """Put the parameters of trials whose worker died back into the queue.

    Returns:
        How many trials are still run by workers that live.
    """
    if place.folder is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        return len(study.get_trials(deepcopy=False, states=(_State.RUNNING,)))
    with place.claiming():
        running = study.get_trials(deepcopy=False, states=(_State.RUNNING,))
        dead = [trial for trial in running if not place.lives(trial.number)]
        for trial in dead:
            _again(study, trial)
    return len(running) - len(dead)


def _again(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    deaths = trial.user_attrs.get(_DEATHS, 0) + 1
    if deaths > _DEATHS_ALLOWED:
        left = optuna.trial.Trial(study, trial._trial_id)
        left.set_user_attr(ERROR, f"its worker died, {deaths} times with these parameters")
    with suppress(optuna.exceptions.UpdateFinishedTrialError):
        study.tell(trial.number, state=_State.FAIL)
        if deaths <= _DEATHS_ALLOWED:
            study.enqueue_trial(trial.params, user_attrs={_DEATHS: deaths})
