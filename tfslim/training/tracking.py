"""MLflow as a logger of trainings, beside TensorBoard."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import tf_keras

from tfslim import errors


class MLflow(tf_keras.callbacks.Callback):
    """Logs each epoch's figures into a run of MLflow; for the `fit` of either Keras.

    It goes on in the run that is active, and leaves it open, or makes one of its own
    and ends it. Nothing is set for the process.

    Attributes:
        run_id: of the run that is logged into; "" before the training.
    """

    def __init__(
        self,
        tracking_uri: Path | str | None = None,
        *,
        experiment: str = "tfslim",
        run_name: str | None = None,
        params: dict[str, Any] | None = None,
    ):
        """Prepares to log.

        Args:
            tracking_uri: of a server or database, or a folder; None: MLflow's own.
            experiment: name of the experiment of a new run; made where there is none.
            run_name: of a new run.
            params: logged once, beside the model's name and size and the optimizer.

        Raises:
            MissingExtraError: MLflow is not installed.
        """
        super().__init__()
        if importlib.util.find_spec("mlflow") is None:
            raise errors.MissingExtraError(
                "mlflow", extra="mlflow", needed_for="callbacks.MLflow"
            )
        self.run_id = ""
        self._uri, self._experiment, self._name = tracking_uri, experiment, run_name
        self._params = dict(params or {})
        self._client: Any = None
        self._is_own = False

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Finds or makes the run, and logs what is known of the model.

        Raises:
            ConfigError: MLflow refuses the place; its own words are the reason.
        """
        mlflow = importlib.import_module("mlflow")
        with errors.raised_as(
            errors.ConfigError,
            lambda cause: f"MLflow cannot log to {self._uri or 'its store'}: {cause}",
        ):
            uri = self._uri
            if isinstance(uri, Path):
                uri = uri.absolute().as_uri()
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            active = mlflow.active_run() if uri is None else None
            self._is_own = active is None
            self.run_id = active.info.run_id if active else self._new_run()
            optimizer = getattr(self.model, "optimizer", None)
            known = {
                "model": self.model.name,
                "params": self.model.count_params(),
                "optimizer": type(optimizer).__name__,
            }
            for name, value in (known | self._params).items():
                self._client.log_param(self.run_id, name, value)

    def _new_run(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        number = (
            found.experiment_id
            if found
            else self._client.create_experiment(self._experiment)
        )
        run_id = self._client.create_run(number, run_name=self._name).info.run_id
        return str(run_id)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Logs the epoch's figures."""
        for name, value in (logs or {}).items():
            self._client.log_metric(self.run_id, name, float(value), step=epoch)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Ends a run of its own."""
        if self._is_own and self.run_id:
            self._client.set_terminated(self.run_id)
