"""What hardtune warns of where networks train is read by the one who waits for them."""

import json

import pytest

SCRIPT = """
from ray import tune
from hardtune import Recipe
from hardtune.sweep import Sweep, main

recipe = Recipe(model="small_cnn", epochs=1, members=1, scoring_members=1, encoder="pixels", validation=0.3)
sweep = Sweep("warned", "digits", recipe, {"alpha": tune.uniform(0.1, 1), "policy": "shift"}, trials=2)

if __name__ == "__main__":
    main(sweep)
"""


@pytest.mark.slow
def test_damaged_files_and_networks_that_do_not_compile_are_said_once(script, tmp_path, monkeypatch):
    path = tmp_path / "warned.py"
    path.write_text(SCRIPT)
    monkeypatch.setenv("CXX", "/no/such/compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    sentence = "training goes on without torch.compile, and slower"
    out = script.run(str(path), "--recipe", "compile=true")
    assert out.count(sentence) == 2  # of the scoring ensemble, and of trials
    assert all(sentence in json.loads(record.read_text())["warning"] for record in script.records())

    control, _, damaged = sorted((script.storage / "store" / "member").glob("*"), key=lambda file: file.stat().st_mtime)
    for file in (control, damaged):
        file.write_bytes(file.read_bytes()[:-1])
    out = script.run(str(path), "--recipe", "compile=true")
    for file in (control, damaged):
        assert out.count(f"set aside {file}, which is damaged") == 1
