"""Draws figures one at a time, and quietly: matplotlib is not thread-safe."""

from __future__ import annotations

import logging
import threading

# On a slow machine it warns that it builds its font cache, which happens once per home folder and is harmless.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

one_at_a_time = threading.Lock()
"""Hold this while drawing and saving a figure."""
