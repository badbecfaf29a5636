"""Many trials: Ray Tune schedules, Optuna proposes, MLflow records."""

from hardtune.sweep.cli import main, parser
from hardtune.sweep.definition import Sweep

__all__ = ["Sweep", "main", "parser"]
