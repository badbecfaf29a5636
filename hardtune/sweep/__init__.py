"""Many trials: Ray Tune schedules, Optuna proposes, MLflow records."""

import os

# MLflow reads these on import, so set them before anything imports it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# The tracker's queue retries failed requests itself, after checking whether they went through after all.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from hardtune.report.comparison import Comparison
from hardtune.sweep.cli import main, parser
from hardtune.sweep.definition import Sweep, data_name
from hardtune.sweep.from_python import run

__all__ = ["Comparison", "Sweep", "data_name", "main", "parser", "run"]
