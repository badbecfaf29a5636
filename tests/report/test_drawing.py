"""Class names are legible in figures, whatever script they are in."""

import warnings

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from hardtune.report import drawing

SIGN = "\N{CUNEIFORM SIGN A}"


@pytest.fixture
def cuneiform(tmp_path, monkeypatch):
    """A font of one letter, a black square, that was installed after matplotlib had looked for fonts."""
    pen = TTGlyphPen(None)
    for step, corner in enumerate([(0, 0), (0, 1000), (1000, 1000), (1000, 0)]):
        (pen.lineTo if step else pen.moveTo)(corner)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "sign"])
    font.setupCharacterMap({ord(SIGN): "sign"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "sign": pen.glyph()})
    font.setupHorizontalMetrics(dict.fromkeys((".notdef", "sign"), (1100, 0)))
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": "Cuneiform of a test", "styleName": "Regular"})
    font.setupOS2(usWeightClass=400)
    font.setupPost()
    path = tmp_path / "cuneiform.ttf"
    font.save(path)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(path), str(tmp_path / "gone.ttf")])
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    drawing._fonts_with.cache_clear()
    yield
    drawing._fonts_with.cache_clear()


def labelled(name):
    figure = Figure(figsize=(2, 2), layout="constrained")
    axes = figure.subplots()
    axes.barh([0, 1], [1, 2], color="white")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([0, 1], [name, name], fontsize=20)
    return figure


def test_letters_that_matplotlib_lacks_are_in_a_font_that_has_them(tmp_path, cuneiform):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing.save(labelled(f"{SIGN}{SIGN}"), tmp_path / "it.png", dpi=100)
    dark = (imread(tmp_path / "it.png")[..., 0] < 0.5).sum()
    assert dark > 4 * 0.8 * (20 / 72 * 100) ** 2, "two labels of two squares each, as high as the letters"


def test_letters_that_no_font_has_are_warned_of_and_common_ones_need_none(tmp_path):
    plain = labelled("cat, собака\n")
    drawing.save(plain, tmp_path / "it.png")
    assert {tuple(text.get_fontfamily()) for text in plain.findobj(Text)} == {("sans-serif",)}
    with pytest.warns(UserWarning, match="Glyph .* missing"):
        drawing.save(labelled("\N{NUSHU CHARACTER-1B170}"), tmp_path / "it.png")


def test_a_pdf_has_no_fonts_of_type_3_which_checks_of_papers_refuse(tmp_path):
    drawing.save(labelled("cat, α"), tmp_path / "it.pdf")
    written = (tmp_path / "it.pdf").read_bytes()
    assert b"/Type3" not in written
    assert b"/TrueType" in written or b"/CIDFontType2" in written, "letters one can search for"
