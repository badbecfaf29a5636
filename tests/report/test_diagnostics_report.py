"""A trial's reliability diagram, and what is drawn beside it."""

import pytest

from hardtune import Treatment
from hardtune.report.diagnostics import diagnostics_figure
from hardtune.report.records import Record

CURVES = {"confidence": [0.3, 0.9], "accuracy": [0.2, 0.8], "share": [0.4, 0.6], "risk": [0.1, 0.2, 0.3]}


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_trials_diagrams_can_be_drawn_for_a_paper(tmp_path, suffix, begins):
    record = Record(0, Treatment(loss="focal"), "finished", curves={"members": CURVES, "ensemble": CURVES})
    diagnostics_figure(record, tmp_path / f"it.{suffix}")
    assert (tmp_path / f"it.{suffix}").read_bytes().startswith(begins)
