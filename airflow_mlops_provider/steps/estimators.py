"""Estimators by import path, or by a description of a Pipeline in YAML or a dict.

A description is a part, and parts hold parts::

    steps:                                    # a Pipeline
      - name: prepare                         # by default the class's name in lower case
        transformers:                         # a ColumnTransformer; each part has its `columns`
          - use: sklearn.preprocessing.OneHotEncoder
            with: {handle_unknown: ignore}    # arguments; `{use: ..., with: ...}` nests
            columns: [origin, carrier]
          - use: sklearn.preprocessing.StandardScaler
            columns: {dtype: number}          # or {pattern: "^wind_"}, a regular expression
        remainder: passthrough                # drop (the default), passthrough, or a part
      - name: model
        use: sklearn.ensemble.HistGradientBoostingClassifier

Only what stands under ``use`` is imported. Parameters then go to the steps by scikit-learn's own
names (``model__max_iter``).

scikit-learn is imported late: a task whose step runs in another environment only describes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.importing import import_object
from airflow_mlops_provider.steps.yaml_files import read_yaml

if TYPE_CHECKING:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

Description = str | dict[str, Any]
"""An import path, or a description as above."""
_WORDS = ("passthrough", "drop")
_FORMS = {
    "use": {"use", "with"},
    "steps": {"steps"},
    "transformers": {"transformers", "remainder"},
}
_SELECTORS = {"dtype": "dtype_include", "pattern": "pattern"}


def describe(estimator: Any) -> Description:
    """Return an estimator in the form that a ``TrainingSpec`` keeps.

    Args:
        estimator: An import path, a class or function, a description, or the path or fsspec URI
            of a description (``*.yaml``, ``*.yml``), of which the content is kept.

    Raises:
        ParameterError: the file is missing, or no YAML with a mapping.
    """
    if isinstance(estimator, Mapping):
        return dict(estimator)
    if isinstance(estimator, str) and estimator.endswith((".yaml", ".yml")):
        found = read_yaml(estimator, "estimator", "train")
        if not isinstance(found, dict):
            raise ParameterError.of("estimator", "train", f"a mapping in {estimator}", found)
        return found
    return import_path(estimator)


def import_path(estimator: str | Callable[..., Any]) -> str:
    """Return the import path of an estimator or factory."""
    if isinstance(estimator, str):
        return estimator
    name = getattr(estimator, "__qualname__", type(estimator).__qualname__)
    return f"{getattr(estimator, '__module__', '')}.{name}"


def named_paths(description: Any) -> Iterator[str]:
    """Yield each import path that a description names."""
    if isinstance(description, str):
        yield description
    elif isinstance(description, Mapping):
        if (path := description.get("use")) and path not in _WORDS:
            yield path
        for value in description.values():
            if isinstance(value, Mapping | list):
                yield from named_paths(value)
    elif isinstance(description, list):
        for value in description:
            if isinstance(value, Mapping | list):
                yield from named_paths(value)


def build_estimator(
    estimator: Description | Callable[..., Any],
    params: Mapping[str, Any],
    seed: int | None = None,
) -> Any:
    """Return an estimator, not fitted yet.

    Args:
        estimator: A class or function, its import path, or a description.
        params: Arguments of the class or function; those with ``__`` in their names, and all
            with a description, are given to the estimator's ``set_params``.
        seed: What every ``random_state`` becomes that is still None, nested ones too.

    Raises:
        ParameterError: something cannot be imported, or refuses its arguments.
    """
    given = {name: _value(value, f"params.{name}") for name, value in params.items()}
    if isinstance(estimator, Mapping):
        built, late = _part(estimator, ""), given
    else:
        late = {name: value for name, value in given.items() if "__" in name}
        first = {name: value for name, value in given.items() if name not in late}
        factory = import_object(estimator) if isinstance(estimator, str) else estimator
        built = _called(factory, first, import_path(estimator), "params")
    if not hasattr(built, "fit"):
        raise ParameterError.of("estimator", "train", "something with a fit method", built)
    if late:
        _set_params(built, late)
    if seed is not None:
        _set_seed(built, seed)
    return built


def _set_params(model: Any, params: Mapping[str, Any]) -> None:
    try:
        model.set_params(**params)
    except (ValueError, TypeError, AttributeError) as error:
        raise ParameterError(
            f"Expected params of {type(model).__name__}, got {sorted(params)}: {error}"
        ) from error


def _set_seed(model: Any, seed: int) -> None:
    if hasattr(model, "get_params"):
        unset = [
            name
            for name, value in model.get_params().items()
            if value is None and name.rpartition("__")[2] == "random_state"
        ]
        model.set_params(**dict.fromkeys(unset, seed))


def _called(
    factory: Callable[..., Any], arguments: Mapping[str, Any], path: str, place: str
) -> Any:
    try:
        return factory(**arguments)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"Expected {place} that {path!r} takes, got {sorted(arguments)}: {error}."
        ) from error


def _part(part: Any, place: str) -> Any:
    """Build a part; ``place`` is where it stands, for errors (``steps[1].``)."""
    forms = [form for form in _FORMS if isinstance(part, Mapping) and form in part]
    if len(forms) != 1:
        name = place.rstrip(".") or "estimator"
        raise ParameterError.of(name, "train", f"a mapping with one of {[*_FORMS]}", part)
    unknown = set(part) - _FORMS[forms[0]] - {"name", "columns"}
    if unknown:
        known = sorted(_FORMS[forms[0]] | {"name", "columns"})
        raise ParameterError.of(f"{place}{sorted(unknown)[0]}", "train", f"one of {known}", part)
    return _BUILDERS[forms[0]](part, place)


def _called_part(part: Mapping[str, Any], place: str) -> Any:
    path = part["use"]
    if path in _WORDS:
        return path
    if not isinstance(path, str):
        raise ParameterError.of(f"{place}use", "train", "an import path", path)
    given = part.get("with") or {}
    if not isinstance(given, Mapping):
        raise ParameterError.of(f"{place}with", "train", "a mapping of arguments", given)
    arguments = {name: _value(value, f"{place}with.{name}") for name, value in given.items()}
    return _called(import_object(path, f"{place}use"), arguments, path, f"{place}with")


def _pipeline(part: Mapping[str, Any], place: str) -> Pipeline:
    from sklearn.pipeline import Pipeline

    parts = _parts(part["steps"], f"{place}steps")
    return Pipeline([(_name(each), _part(each, at)) for each, at in parts])


def _column_transformer(part: Mapping[str, Any], place: str) -> ColumnTransformer:
    from sklearn.compose import ColumnTransformer

    parts = _parts(part["transformers"], f"{place}transformers")
    transformers = [(_name(each), _part(each, at), _columns(each, at)) for each, at in parts]
    remainder = part.get("remainder", "drop")
    if remainder not in _WORDS:
        remainder = _part(remainder, f"{place}remainder.")
    return ColumnTransformer(transformers, remainder=remainder)


_BUILDERS: dict[str, Callable[[Mapping[str, Any], str], Any]] = {
    "use": _called_part,
    "steps": _pipeline,
    "transformers": _column_transformer,
}


def _parts(parts: Any, place: str) -> list[tuple[Any, str]]:
    if not isinstance(parts, list) or not parts:
        raise ParameterError.of(place, "train", "a list of parts", parts)
    return [(each, f"{place}[{number}].") for number, each in enumerate(parts)]


def _name(part: Any) -> str:
    if not isinstance(part, Mapping):
        return ""
    form = next((form for form in _FORMS if form in part), "")
    default = str(part["use"]).rpartition(".")[2] if form == "use" else form
    return str(part.get("name", default.lower()))


def _columns(part: Mapping[str, Any], place: str) -> Any:
    columns = part.get("columns")
    if isinstance(columns, list) and columns:
        return columns
    if isinstance(columns, Mapping) and columns and set(columns) <= set(_SELECTORS):
        from sklearn.compose import make_column_selector

        return make_column_selector(**{_SELECTORS[key]: value for key, value in columns.items()})
    raise ParameterError.of(
        f"{place}columns", "train", f"a list of columns, or a mapping of {[*_SELECTORS]}", columns
    )


def _value(value: Any, place: str) -> Any:
    """Return an argument, with the parts in it built."""
    if isinstance(value, Mapping) and any(form in value for form in _FORMS):
        return _part(value, f"{place}.")
    if isinstance(value, list):
        return [_value(each, f"{place}[{number}]") for number, each in enumerate(value)]
    return value
