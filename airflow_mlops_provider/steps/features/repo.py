"""Register what a Feast repository defines, after showing what that would change."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feast import repo_operations
from feast.diff.property_diff import TransitionType
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.infra.registry.registry import FeastObjectType

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.features.registry import heal, registry_lock

if TYPE_CHECKING:
    from feast import FeatureStore
    from feast.diff.registry_diff import FeastObjectDiff

PLAN_FILE = "feast_plan.txt"
_HARMLESS_TO_REMOVE = {FeastObjectType.DATA_SOURCE, FeastObjectType.PERMISSION}


@dataclass(frozen=True)
class FeaturePlan:
    """What applying a repository would change."""

    changes: tuple[str, ...]
    destructive: tuple[str, ...]
    """Those by which models, training sets or online rows may lose features."""

    def __str__(self) -> str:
        """Give a line for each change; those that destroy are marked ``!``."""
        marked = [f"{'!' if line in self.destructive else ' '} {line}" for line in self.changes]
        return "\n".join(marked) or "  no changes"


def apply_features(
    store: FeatureStore,
    repo_path: str,
    *,
    allow_destructive: bool = False,
    show: Callable[[FeaturePlan], None] | None = None,
) -> list[str]:
    """Register what the Python files of a repository define; return the feature views' names.

    Args:
        store: The feature store of the repository.
        repo_path: Its folder.
        allow_destructive: Also remove views, entities, services and features that are no longer
            defined, as ``feast apply`` does, and change types.
        show: Told the plan before anything is changed or refused.

    Raises:
        DataError: a file does not import, a definition or its source is wrong, or the plan
            destroys something; nothing is changed then.
        FeatureStoreUnavailableError: another process holds the registry.
    """
    repo_folder = Path(repo_path).resolve()
    with _inside(repo_folder):
        with _applying(repo_folder):
            repo = repo_operations._get_repo_contents(repo_folder, store.project, store.config)
        names = sorted(view.name for view in repo.feature_views)
        with registry_lock(store):
            with _applying(repo_folder):
                plan = _plan(store.plan(repo)[0].feast_object_diffs)
            if show:
                show(plan)
            if plan.destructive and not allow_destructive:
                raise DataError(
                    f"Applying {repo_folder} would destroy what others may use: "
                    f"{'; '.join(plan.destructive)}. Nothing was changed. Define it again, give "
                    "what replaces it another name, or pass allow_destructive=True."
                )
            with _applying(repo_folder):
                repo_operations.apply_total_with_repo_instance(
                    store, store.project, store.registry, repo, skip_source_validation=False
                )
            heal(store, names)
    return names


def _plan(diffs: Iterable[FeastObjectDiff]) -> FeaturePlan:
    changes: list[str] = []
    destructive: list[str] = []
    for diff in diffs:
        if diff.name == DUMMY_ENTITY_NAME or diff.transition_type == TransitionType.UNCHANGED:
            continue
        kind = diff.feast_object_type.value
        if diff.transition_type == TransitionType.UPDATE:
            what = ", ".join(each.property_name for each in diff.feast_object_property_diffs)
            changes.append(f"update {kind} {diff.name}: {what}")
            lost = _lost(diff)
            changes += lost
            destructive += lost
        else:
            changes.append(f"{diff.transition_type.name.lower()} {kind} {diff.name}")
            if _removes(diff):
                destructive.append(changes[-1])
    return FeaturePlan(tuple(changes), tuple(destructive))


def _removes(diff: FeastObjectDiff) -> bool:
    deleted = diff.transition_type == TransitionType.DELETE
    return deleted and diff.feast_object_type not in _HARMLESS_TO_REMOVE


def _lost(diff: FeastObjectDiff) -> list[str]:
    """Say which features and join keys an update removes, and which types it changes."""
    where = f"of {diff.feast_object_type.value} {diff.name}"
    before, after = _types(diff.current_feast_object), _types(diff.new_feast_object)
    return [
        f"remove {name} {where}"
        if name not in after
        else f"change the type of {name} {where} from {kind} to {after[name]}"
        for name, kind in before.items()
        if after.get(name) != kind
    ]


def _types(item: Any) -> Mapping[str, str]:
    """Return the name and type of each feature, join key and member that others may rely on."""
    if hasattr(item, "feature_view_projections"):
        members = item.feature_view_projections
        return {
            f"{view.name}:{one.name}": str(one.dtype) for view in members for one in view.features
        }
    if hasattr(item, "value_type"):
        return {item.join_key: item.value_type.name}
    fields = [*getattr(item, "entity_columns", ()), *getattr(item, "features", ())]
    return {field.name: str(field.dtype) for field in fields}


@contextmanager
def _applying(repo_folder: Path) -> Iterator[None]:
    """Word whatever the code of a repository, or Feast as it reads it, may raise."""
    try:
        yield
    except Exception as error:
        raise DataError(
            f"The Feast repository {repo_folder} cannot be applied: {type(error).__name__}: "
            f"{error}. Correct the definition, or write the file it reads."
        ) from error


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in ``folder``, as Feast must to import its files; forget these modules afterwards."""
    before, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    linecache.checkcache()  # Feast keeps the source of functions as it is remembered there
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if _lies_in(sys.modules[name], folder):
                del sys.modules[name]


def _lies_in(module: Any, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)
