"""Figures are drawn one at a time: matplotlib's fonts are not for several threads, and a process may crash."""

from __future__ import annotations

import threading

one_at_a_time = threading.Lock()
"""Hold it while a figure is drawn and saved."""
