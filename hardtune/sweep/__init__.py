"""Many trials: Ray Tune schedules, Optuna proposes, MLflow records."""

from hardtune.report.comparison import Comparison
from hardtune.sweep.cli import main, parser
from hardtune.sweep.definition import Sweep

__all__ = ["Comparison", "Sweep", "main", "parser"]
