"""Figures are drawn one at a time: matplotlib is not made for several threads."""

from __future__ import annotations

import threading

one_at_a_time = threading.Lock()
"""Hold it while a figure is drawn and saved."""
