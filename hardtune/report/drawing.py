"""Figures are drawn one at a time, and quietly: matplotlib is not made for several threads."""

from __future__ import annotations

import logging
import threading

# On a slow machine it warns that it builds its font cache, which is once a home and nobody's trouble.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

one_at_a_time = threading.Lock()
"""Hold it while a figure is drawn and saved."""
