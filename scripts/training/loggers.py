"""Where the figures of a run go besides ``metrics.csv``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from configs import ConfigError

LoggerName = Literal["tensorboard", "mlflow"]


def build_loggers(names: Sequence[LoggerName], out: Path, run: str) -> list[Logger]:
    """The loggers of a run.

    MLflow writes to ``out/mlflow``, or to the server that ``MLFLOW_TRACKING_URI`` names; it tells
    nobody else.

    Args:
        names: which.
        out: folder of the run.
        run: its name.

    Raises:
        ConfigError: a logger's package is missing.
    """
    build = {"tensorboard": _tensorboard, "mlflow": _mlflow}
    return [build[name](out, run) for name in names]


def log_settings(loggers: Sequence[Logger], settings: Mapping[str, Any]) -> None:
    """Writes the whole configuration to all of them."""
    for logger in loggers:
        logger.log_hyperparams(dict(settings))


def _tensorboard(out: Path, run: str) -> Logger:
    return TensorBoardLogger(out, name="tensorboard", version="", default_hp_metric=False)


def _mlflow(out: Path, run: str) -> Logger:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    folder = (out / "mlflow").resolve()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or folder.as_uri()
    try:
        return MLFlowLogger(experiment_name="cytolibra", run_name=run, tracking_uri=uri)
    except ImportError as error:
        raise ConfigError(
            "loop.loggers: mlflow is not installed: pip install 'cytolibra[mlflow]'"
        ) from error
