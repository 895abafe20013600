"""How a target says that it cannot do what only our own serving host can."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, Self

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.serving.options import DeploymentOptions


class LimitedTarget:
    """Base of clients of targets that lack some of the traffic protocol; a context manager."""

    target_name: ClassVar[str]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, if there are any."""

    def refuse(self, **asked: object) -> None:
        """Refuse the words that are asked for.

        Raises:
            ParameterError: one of them is; the message names it.
        """
        words = [word for word, value in asked.items() if value]
        if words:
            self._lacks(", ".join(words))

    def refuse_options(self, options: dict[str, Any] | None, instead: str) -> None:
        """Refuse options of a deployment that are not the defaults.

        Raises:
            ParameterError: there are some.
        """
        if DeploymentOptions.of(options) != DeploymentOptions():
            constraint = f"left out: {instead}"
            raise ParameterError.of("options", f"a {self.target_name} target", constraint, options)

    def predict(self, endpoint: str, payload: dict[str, Any], **options: Any) -> NoReturn:
        """Refuse: requests go to the endpoint itself."""
        self._lacks("predict: send requests to the endpoint's own URL")

    def rotate_logs(self, endpoint: str) -> NoReturn:
        """Refuse: there is no prediction log of ours."""
        self._lacks("a prediction log")

    def send_feedback(self, endpoint: str, feedback: object) -> NoReturn:
        """Refuse: there is no log of ours to keep it in."""
        self._lacks("feedback")

    def pairs(self, endpoint: str) -> NoReturn:
        """Refuse: nothing is mirrored."""
        self._lacks("pairs")

    def _lacks(self, what: str) -> NoReturn:
        raise ParameterError(
            f"The serving target {self.target_name} cannot do {what}. Use a target that can, such "
            "as the serving host of this provider."
        )
