"""Figures are drawn one at a time, since matplotlib is not thread-safe, quietly, and with letters of any script."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# On a slow machine it warns that it builds its font cache, which happens once per home folder and is harmless; and that
# a font has another weight than it looked for.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

COLOURS = ("#0b6e99", "#d9480f", "#8a5a00", "#7048e8", "#0ca678", "#868e96")
"""Of lines that one panel tells apart."""
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
"""Of another number than the colours, so that few lines look alike; and for those who see no colours."""
one_at_a_time = threading.Lock()
"""Hold this while drawing and saving a figure."""


def save(figure: Figure, path: Path, **options: Any) -> None:
    """``figure.savefig``, with letters that matplotlib's font lacks in another, and in PDFs as publishers take them.

    Makes the folder that ``path`` is in.
    """
    from matplotlib import rc_context

    find_letters(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"pdf.fonttype": 42}):  # matplotlib's default is Type 3, which many checks of papers refuse
        figure.savefig(path, **options)


def find_letters(figure: Figure) -> None:
    """Show letters that matplotlib's font lacks, as of Chinese names, in a font that is installed.

    Without such a font they are boxes, of which matplotlib warns.
    """
    from matplotlib import rcParams
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    fonts = _fonts_with(frozenset(filter(str.isprintable, "".join(text.get_text() for text in texts))))
    if fonts:
        for text in texts:
            text.set_fontfamily([*rcParams["font.family"], *fonts])


@functools.lru_cache(maxsize=1)
def _fonts_with(letters: frozenset[str]) -> tuple[str, ...]:
    """Installed fonts with what matplotlib's own lacks of the letters: the first that has each, in their order."""
    from matplotlib import font_manager

    fonts, own = font_manager.fontManager, font_manager.FontProperties()
    lacking = letters - _letters_of(fonts.findfont(own))
    if not lacking:
        return ()
    known = {font.fname for font in fonts.ttflist}  # of a cache that may be older than an installed font
    for file in sorted(set(font_manager.findSystemFonts()) - known):
        with contextlib.suppress(OSError, RuntimeError):  # of a kind that is none of matplotlib's
            fonts.addfont(file)
    found: list[str] = []
    for font in sorted(fonts.ttflist, key=lambda font: (font.weight != 400, font.name)):
        has = set() if font.name.startswith("Last Resort") else lacking & _letters_of(font.fname)
        if has:
            found.append(font.name)
            lacking -= has
    return tuple(found)


def _letters_of(font: str) -> set[str]:
    from matplotlib import font_manager

    try:
        return set(map(chr, font_manager.get_font(font).get_charmap()))
    except (OSError, RuntimeError):  # a font that was removed since, say
        return set()
