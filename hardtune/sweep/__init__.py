"""Many trials: Ray Tune schedules, Optuna proposes, MLflow records.

What is exported here is imported on first use, so a worker that scores samples does not wait for Ray Tune.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hardtune.lazily import exported

# MLflow reads these on import, so set them before anything imports it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# The tracker's queue retries failed requests itself, after checking whether they went through after all.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

if TYPE_CHECKING:
    from hardtune.report.comparison import Comparison
    from hardtune.sweep.cli import main, parser
    from hardtune.sweep.definition import Sweep, data_name
    from hardtune.sweep.from_python import run

__all__ = ["Comparison", "Sweep", "data_name", "main", "parser", "run"]

_HOME = {
    "Comparison": "hardtune.report.comparison",
    "Sweep": "hardtune.sweep.definition",
    "data_name": "hardtune.sweep.definition",
    "main": "hardtune.sweep.cli",
    "parser": "hardtune.sweep.cli",
    "run": "hardtune.sweep.from_python",
}

__getattr__ = exported(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
