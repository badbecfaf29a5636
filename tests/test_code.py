"""A digest of someone's own code moves with all that decides what it does, and with nothing else."""

import argparse
import dataclasses
import functools
import hashlib
import importlib
import linecache
import os
import random
import re
import subprocess
import sys
import textwrap
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from hardtune import Recipe, Store, Treatment, answers, load
from hardtune.code import code_digest
from hardtune.commands.subject import read_script
from hardtune.evaluation.corruptions import CORRUPTIONS
from hardtune.hardness.encoders import encoder_identity
from hardtune.hardness.encoders.encoder import ENCODERS
from hardtune.member import Prepared, stored_member
from hardtune.registry import plug_ins
from hardtune.resampling.policies import POLICIES
from hardtune.training.losses import LOSSES
from hardtune.training.models import MODELS
from hardtune.training.timm_model import timm_model

SCRIPT = """
import functools
import numpy as np
import torch
from torch import nn
import beside
from hardtune.evaluation.metric import Metric
from hardtune.training.losses import Loss

RATE = 0.5
TABLE = {"a": (1, {"x", "y", "z"}), "of": [np.arange(3), object]}
unused = 1

def helper(x):
    return beside.scaled(x) + RATE

class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.inner = nn.Linear(n, n)

    @torch.no_grad()
    def forward(self, x):
        return self.inner(helper(x)).mean()

@functools.lru_cache
def sized(n):
    return TABLE["a"][0] + n

def make(channels, classes, size=32):
    return nn.Sequential(Block(sized(channels)), *(nn.ReLU() for _ in range(2)))

class Mine(Loss):
    gamma = 2.0

    def forward(self, logits, labels, ids):
        return logits ** self.gamma

measured = Metric(lambda predictions: helper(predictions.confidence), "max")
"""
BESIDE = """
FACTOR = 3

def scaled(x):
    return FACTOR * x
"""
NAMES = ("make", "Mine", "measured", "partial")


def say():
    """The digests, by name, of what the script that is found first has."""
    script = importlib.import_module("script")
    things = (script.make, script.Mine, script.measured, functools.partial(script.make, 1))
    return dict(zip(NAMES, map(code_digest, things), strict=True))


def digests(folder, monkeypatch, script=SCRIPT, beside=BESIDE):
    folder.mkdir()
    (folder / "script.py").write_text(script)
    (folder / "beside.py").write_text(beside)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.delitem(sys.modules, "script", raising=False)
        patch.delitem(sys.modules, "beside", raising=False)
        found = say()
    for name in ("script", "beside"):
        sys.modules.pop(name, None)
    return found


@pytest.mark.parametrize(
    ("was", "becomes", "changed"),
    [
        ("range(2)", "range(3)", {"make", "partial"}),
        ("size=32", "size=64", {"make", "partial"}),
        ("self.inner(helper(x)).mean()", "self.inner(helper(x)).sum()", {"make", "partial"}),
        ('TABLE["a"][0] + n', 'TABLE["a"][0] - n', {"make", "partial"}),
        ("(1, {", "(2, {", {"make", "partial"}),
        ('"z"}', '"w"}', {"make", "partial"}),
        ("np.arange(3)", "np.arange(4)", {"make", "partial"}),
        ("gamma = 2.0", "gamma = 3.0", {"Mine"}),
        ("RATE = 0.5", "RATE = 0.6", {"make", "measured", "partial"}),
        ("FACTOR = 3", "FACTOR = 4", {"make", "measured", "partial"}),
        ("FACTOR * x", "FACTOR + x", {"make", "measured", "partial"}),
        ('"max"', '"min"', {"measured"}),
        ("helper(predictions.confidence)", "helper(predictions.labels)", {"measured"}),
        ("unused = 1", "unused = 2", set()),
        ("    gamma = 2.0", "    # by Lin\n\n    gamma =  2.0", set()),
        ("def scaled(x):", 'def scaled(x):\n    """Larger."""', set()),
        ("class Mine(Loss):", 'class Mine(Loss):\n    """My own."""\n', set()),
    ],
)
def test_what_decides_what_it_does_counts_and_nothing_else(tmp_path, monkeypatch, was, becomes, changed):
    assert (was in SCRIPT) != (was in BESIDE)
    before = digests(tmp_path / "before", monkeypatch)
    after = digests(tmp_path / "after", monkeypatch, SCRIPT.replace(was, becomes), BESIDE.replace(was, becomes))
    assert {name for name in NAMES if before[name] != after[name]} == changed


ELSEWHERE = {
    "an attribute of a function": """
def scale(x):
    return x * scale.by

scale.by = NUMBER
""",
    "what a function does with another type": """
@functools.singledispatch
def scale(x):
    return x

@scale.register
def _(x: int):
    return x * NUMBER
""",
    "how an object is made": """
class scale:
    def __new__(cls, x):
        return x * NUMBER
""",
    "a class method with a name of Python's": """
class It:
    @classmethod
    def __class_getitem__(cls, x):
        return x * NUMBER

def scale(x):
    return It[x]
""",
    "a property with a name of Python's": """
class It:
    @property
    def __call__(self):
        return lambda x: x * NUMBER

def scale(x):
    return It()(x)
""",
    "a class of classes": """
class Kind(type):
    def __call__(cls, x):
        return x * NUMBER

class scale(metaclass=Kind):
    pass
""",
    "a function that torch compiled, and its helper": """
def helper(x: float) -> float:
    return x * NUMBER

@torch.jit.script
def scale(x: float) -> float:
    return helper(x)
""",
    "what a dict gives for what it lacks": """
def factory():
    return NUMBER

table = collections.defaultdict(factory)

def scale(x):
    return table[x]
""",
    "dates": """
dates = np.array(["200NUMBER-01-01"], "datetime64[D]")

def scale(x):
    return dates
""",
}
AROUND = """
import collections, functools
import numpy as np
import torch

def make(x):
    return scale(x)

Mine = measured = make
"""


@pytest.mark.parametrize("where", ELSEWHERE)
def test_what_is_in_none_of_the_usual_places_counts(tmp_path, monkeypatch, where):
    script = AROUND.replace("def make", ELSEWHERE[where] + "\ndef make")
    first, again, other = (
        digests(tmp_path / str(n), monkeypatch, script.replace("NUMBER", by))["make"] for n, by in enumerate("223")
    )
    assert first == again != other


def test_what_a_function_remembers_of_its_calls_does_not_count():
    @functools.singledispatch
    def scale(x):
        return x

    def counted(x):
        counted.calls += 1
        return x * counted.by

    counted.calls, counted.by = 0, 2
    before = code_digest(scale), code_digest(counted)
    scale(1), counted(1)
    assert (code_digest(scale), code_digest(counted)) == before
    counted.by = 3
    assert code_digest(counted) != before[1]


def test_every_process_says_the_same(tmp_path, monkeypatch):
    """Sets have another order in each, functions and objects another address."""
    here = digests(tmp_path / "it", monkeypatch)
    path = os.pathsep.join([str(tmp_path / "it"), str(Path(__file__).parent), *sys.path])
    said = subprocess.run(
        [sys.executable, "-c", "import test_code; print(*test_code.say().values())"],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert said.split() == list(here.values())


PLACED = """
import logging, os
from pathlib import Path
from torch import nn
import beside
from hardtune.code import code_digest

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
TABLE = os.path.join(os.path.dirname(__file__), "table.npy")

class Places:
    table: str = str(HERE / "more.npy")

def make(channels, classes, size):
    class Inner(nn.Module):
        home = Path(__file__).parent

        def forward(self, x):
            logging.getLogger(__name__).debug("seen")
            log.debug("seen in %s, %s, %s", HERE, TABLE, beside.__file__)
            return x + beside.FACTOR
    return Inner()

if __name__ == "__main__":
    print(code_digest(Places), code_digest(make))
"""


def test_a_script_is_the_same_whether_it_runs_or_is_imported_and_in_any_folder(tmp_path, monkeypatch):
    """As a sweep runs it, as commands that are given it read it, and as each job on a cluster has it."""

    def said(text, folder, way):
        folder.mkdir(parents=True)
        path = folder / "mine.py"
        path.write_text(text)
        (folder / "beside.py").write_text(BESIDE)
        if way == "run":
            run = [sys.executable, "-B", str(path)]
            return subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            for name in ("mine", "beside", "hardtune_subject"):
                patch.delitem(sys.modules, name, raising=False)
            module = importlib.import_module("mine") if way == "imported" else read_script(path)
            found = [code_digest(module.Places), code_digest(module.make)]
        for name in ("mine", "beside", "hardtune_subject"):
            sys.modules.pop(name, None)
        return found

    first = said(PLACED, tmp_path / "run", "run")
    for way in ("imported", "read"):
        for folder in ("here", "there"):
            assert said(PLACED, tmp_path / way / folder, way) == first
    other = said(PLACED.replace("table.npy", "other.npy"), tmp_path / "other", "read")
    assert other[0] == first[0]
    assert other[1] != first[1]


LAMBDAS = """
import functools
at_once = lambda x: x * 2
below = (
    lambda x:
        x * 3
)
table = {"é": lambda x: x + 1, "b": lambda x: x + 2 if x > 0
    else x + 4}
part = functools.partial(lambda x, n:
    x ** n, n=6)
inner = (lambda: (lambda x: x - 5))()
"""
TAKEN = ("at_once", "below", "table['é']", "table['b']", "part", "inner")


@pytest.mark.parametrize(
    ("was", "becomes", "changed"),
    [
        ("x * 2", "x * 20", {"at_once"}),
        ("x * 3", "x * 30", {"below"}),
        ("x + 1", "x + 10", {"table['é']"}),
        ("x + 2", "x + 20", {"table['b']"}),
        ("else x + 4", "else x + 40", {"table['b']"}),
        ("x ** n", "x // n", {"part"}),
        ("x - 5", "x + 5", {"inner"}),
        ("x * 3", "x  *  3  # thrice", set()),
    ],
)
def test_a_lambda_is_all_of_it_and_nothing_beside_it(tmp_path, was, becomes, changed):
    """``inspect.getsource`` has the line that it begins on, however much there is before, below or behind it."""

    def found(text):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        path.write_text(text)
        module = read_script(path)
        return {name: code_digest(eval(name, vars(module))) for name in TAKEN}

    before, after = found(LAMBDAS), found(LAMBDAS.replace(was, becomes))
    assert {name for name in TAKEN if before[name] != after[name]} == changed


def test_lambdas_of_one_line_are_told_apart_also_where_python_keeps_no_columns(tmp_path):
    (tmp_path / "it.py").write_text("a, b = lambda x: x + 1, lambda x: x + 2\n")
    said = "from hardtune.code import code_digest; import it; print(code_digest(it.a), code_digest(it.b))"
    command = [sys.executable, "-X", "no_debug_ranges", "-c", said]
    one, other = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert one != other


def test_what_common_generators_draw_next_is_no_part_of_it():
    """Distributions of SciPy hold NumPy's, which each process seeds anew."""

    def mine(x):
        return scipy.stats.norm.ppf(x) + random.random() + np.random.rand()  # noqa: NPY002

    def drawn():
        return code_digest(mine), code_digest(scipy.stats.norm(0, 1)), code_digest(random.shuffle)

    before = drawn()
    random.random()
    np.random.rand()  # noqa: NPY002
    assert drawn() == before
    assert code_digest(scipy.stats.norm(0, 1)) != code_digest(scipy.stats.norm(0, 2))


def test_what_a_library_has_is_known_by_name_without_reading_the_library(monkeypatch):
    monkeypatch.setattr("hardtune.code._source", lambda code: pytest.fail("that may be all of it"))
    functional = torch.nn.functional
    names = functional.cross_entropy, functional.nll_loss, torch.nn.CrossEntropyLoss, scipy.stats.norm(0, 1)
    assert len(set(map(code_digest, names))) == len(names)
    half, tenth = (functools.partial(functional.cross_entropy, label_smoothing=share) for share in (0.5, 0.1))
    assert code_digest(half) != code_digest(tenth)


def test_what_raises_whatever_it_is_asked_for_is_known_by_its_kind():
    class Evasive:
        def __getattr__(self, name):
            raise RuntimeError(f"no {name} here")

    evasive = Evasive()
    assert code_digest(lambda: evasive) == code_digest(lambda: evasive)


def test_a_regular_expression_is_known_by_its_pattern_and_flags():
    patterns = [re.compile(*pattern) for pattern in (("a+",), ("a+",), ("b+",), ("a+", re.IGNORECASE))]
    first, same, *others = (code_digest(lambda text, pattern=pattern: pattern.match(text)) for pattern in patterns)
    assert first == same
    assert len({first, *others}) == 3


def test_what_was_typed_is_known_by_its_instructions(monkeypatch):
    command = ["import it; it.run()"]  # of `python -c`, which Python 3.13 keeps
    monkeypatch.setitem(linecache.cache, "<string>", (len(command[0]), None, command, "<string>"))

    def typed(text):
        namespace = {"np": np, "__name__": "__main__"}
        exec(textwrap.dedent(text), namespace)
        return code_digest(namespace["f"])

    assert typed("def f(x): return x.mean()") == typed("def f(x):\n\n    return x.mean()")
    assert typed("def f(x): return x.mean()") != typed("def f(x): return x.sum()")
    assert typed("def f(x): return [y + 1 for y in x]") != typed("def f(x): return [y + 2 for y in x]")


def test_things_that_hold_each_other_come_to_an_end():
    class Node:
        def __init__(self):
            self.other = None
            self.back = lambda: self

    one, two = Node(), Node()
    one.other, two.other = two, one
    assert len(code_digest(one)) == 64
    assert code_digest(functools.partial(one.back, two)) != code_digest(functools.partial(one.back, one.back))


def test_hardtunes_own_code_is_known_by_its_versions():
    assert LOSSES.code("focal") == {}


def test_what_a_user_registers_is_the_users_wherever_it_is_made(monkeypatch):
    """Else workers are not given it, and the networks of one are taken for those of another."""
    for registry in (MODELS, POLICIES):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_digests", dict(registry._digests))
    MODELS.register("one")(timm_model("resnet18"))
    MODELS.register("another")(timm_model("resnet34"))
    POLICIES.register("as shift")(POLICIES["shift"])
    digests = [*MODELS.code("one").values(), *MODELS.code("another").values(), *POLICIES.code("as shift").values()]
    assert len(set(digests)) == 3
    assert plug_ins()["model"].keys() == {"one", "another"}
    assert plug_ins()["policy"].keys() == {"as shift"}
    assert MODELS.code("timm:resnet18") == MODELS.code("resnet18") == POLICIES.code("shift") == {}


def test_what_a_library_was_given_to_make_a_function_counts():
    small, large = timm_model("resnet18"), timm_model("resnet34")
    assert code_digest(lambda *shape: small(*shape)) != code_digest(lambda *shape: large(*shape))
    averages = [torch.optim.swa_utils.get_ema_multi_avg_fn(decay) for decay in (0.9, 0.9, 0.99)]
    first, same, other = (code_digest(lambda *them, average=average: average(*them)) for average in averages)
    assert first == same != other


LIBRARY = """
def factory(sizes, **options):
    def make(shape):
        return sizes, options
    return make
"""


def test_of_what_a_library_was_given_lists_and_options_count(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "a_library_of_factories.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(folder)
    factory = importlib.import_module("a_library_of_factories").factory

    def digest(*sizes, **options):
        make = factory(sizes, **options)
        return code_digest(lambda shape: make(shape))

    assert digest(1, 2) == digest(1, 2) != digest(3, 4)
    assert digest(1, a=1) == digest(1, a=1) != digest(1, a=2)


def registered(registry, name, entry, monkeypatch):
    monkeypatch.setitem(registry._entries, name, entry)
    monkeypatch.delitem(registry._digests, name, raising=False)


def plain_loss(logits, labels, ids):
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def test_a_network_is_trained_anew_when_the_loss_or_the_model_of_that_name_is_another(tmp_path, monkeypatch):
    split = load("digits").hold_out(0.3, 0)
    recipe = Recipe(model="of mine", epochs=1, batch_size=256)

    def trained(loss, *layers):
        registered(LOSSES, "of mine", lambda *_: loss, monkeypatch)
        make = lambda channels, classes, size: nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, classes))  # noqa: E731
        registered(MODELS, "of mine", make, monkeypatch)
        treatment = Treatment(loss="of mine")
        return stored_member(Prepared(split), recipe, treatment, 0, Store(tmp_path), device="cpu")[1]

    assert trained(plain_loss)
    assert not trained(plain_loss)
    assert trained(lambda logits, labels, ids: 2 * plain_loss(logits, labels, ids))
    assert trained(plain_loss, nn.ReLU())
    assert not trained(plain_loss)


def test_features_and_corrupted_answers_are_made_anew_when_their_code_is_another(monkeypatch):
    split = dataclasses.replace(load("digits").hold_out(0.3, 0), corruptions=(("of mine", 1), ("fog", 1)))

    def identities():
        key = answers.entries({}, split, 0)["corruptions"]
        return encoder_identity("of_mine:8"), key

    class Mine:
        def __init__(self, rest):
            self.rest = rest

        def identity(self):
            return {"kind": "mine", "rest": self.rest}

    registered(ENCODERS, "of_mine", Mine, monkeypatch)
    registered(CORRUPTIONS, "of mine", lambda images, severity, generator: 1 - images, monkeypatch)
    one, again = identities(), identities()
    assert one == again
    registered(CORRUPTIONS, "of mine", lambda images, severity, generator: images, monkeypatch)
    assert identities()[0] == one[0]
    assert identities()[1] != one[1]

    class Another(Mine):
        def encode(self, split, **_):
            return np.zeros((len(split.train), 8), np.float32)

    registered(ENCODERS, "of_mine", Another, monkeypatch)
    assert identities()[0] != one[0]


VALUES = {
    "a tensor": ("torch.tensor([1.0, 2.0])", "torch.tensor([1.0, 3.0])"),
    "a tensor's type": ("torch.ones(2)", "torch.ones(2, dtype=torch.float64)"),
    "a tensor's shape": ("torch.ones(2, 3)", "torch.ones(3, 2)"),
    "a sparse tensor": ("torch.eye(2).to_sparse()", "2 * torch.eye(2).to_sparse()"),
    "a conjugate": ("torch.tensor([1j]).conj()", "torch.tensor([2j]).conj()"),
    "a masked array": ("np.ma.array([1, 2], mask=[0, 1])", "np.ma.array([1, 2], mask=[1, 0])"),
    "a layer": ("nn.CrossEntropyLoss(label_smoothing=0.1)", "nn.CrossEntropyLoss(label_smoothing=0.2)"),
    "a namespace": ("types.SimpleNamespace(a=1)", "types.SimpleNamespace(a=2)"),
    "a library's object": ("collections.deque([1])", "collections.deque([2])"),
    "an own object with slots": ("Slots(1)", "Slots(2)"),
    "an own member of an enumeration": ("Kind.ONE", "Kind.TWO"),
    "a library's function": ("torch.sum", "torch.mean"),
    "a type of numbers": ("torch.float32", "torch.bfloat16"),
    "a partial function of a tensor": (
        "functools.partial(nn.functional.cross_entropy, weight=torch.ones(2))",
        "functools.partial(nn.functional.cross_entropy, weight=torch.zeros(2))",
    ),
}
USES = """
import collections, enum, functools, types
import numpy as np
import torch
from torch import nn

class Slots:
    __slots__ = ("a",)
    def __init__(self, a):
        self.a = a

class Kind(enum.Enum):
    ONE, TWO = 1, 2

VALUE = {value}

def make(x):
    return VALUE, x

class Mine:
    kept = VALUE

def measured(x, value=VALUE):
    return value
"""


@pytest.mark.parametrize("kind", VALUES)
def test_any_object_counts_by_its_value(tmp_path, monkeypatch, kind):
    first, again, other = (
        digests(tmp_path / str(number), monkeypatch, USES.replace("{value}", value))
        for number, value in enumerate((VALUES[kind][0], *VALUES[kind]))
    )
    assert first == again
    assert all(first[name] != other[name] for name in NAMES)


IMPORTS = """
import beside

def make(x):
    from beside import scaled
    return scaled(x)

class Mine:
    def forward(self, x):
        return beside.scaled(x)

def measured(x):
    return beside.other(x)
"""


def test_of_a_module_what_is_taken_out_of_it_counts_wherever_it_is_imported(tmp_path, monkeypatch):
    beside = BESIDE + "\ndef other(x):\n    return x\n"
    before = digests(tmp_path / "before", monkeypatch, IMPORTS, beside)
    after = digests(tmp_path / "after", monkeypatch, IMPORTS, beside.replace("FACTOR * x", "FACTOR + x"))
    assert {name for name in NAMES if before[name] != after[name]} == {"make", "Mine", "partial"}


ATTRIBUTES = [
    "lambda: beside.other(x) * beside.scaled(x)",
    "lambda: beside.other(x) * sum(beside.scaled(k) for k in range(3))",
    "lambda: getattr(beside, 'sca' + 'led')(beside.other(x))",
]


@pytest.mark.parametrize("taken", ATTRIBUTES)
@pytest.mark.parametrize("inside", [True, False])
def test_all_that_is_taken_out_of_a_module_counts_wherever_in_the_function(tmp_path, monkeypatch, taken, inside):
    line = "import beside"
    script = f"def make(x):\n    {line}\n" if inside else f"{line}\n\ndef make(x):\n"
    script += f"    beside.other(x)\n    return {taken}\n\nMine = measured = make\n"
    beside = BESIDE + "\ndef other(x):\n    return x\n"
    before = digests(tmp_path / "before", monkeypatch, script, beside)
    after = digests(tmp_path / "after", monkeypatch, script, beside.replace("FACTOR * x", "FACTOR + x"))
    assert before["make"] != after["make"]


options = argparse.Namespace()


def test_of_a_scripts_flags_those_count_that_are_read(monkeypatch):
    def space(trial):
        return {"alpha": options.strength}

    def digest(**flags):
        monkeypatch.setitem(globals(), "options", argparse.Namespace(**{"strength": 1.0, "resume": False, **flags}))
        return code_digest(space)

    assert digest() == digest(resume=True), "or no sweep with such a space could be resumed"
    assert digest() != digest(strength=2.0)


def test_imports_within_a_package_are_followed_and_libraries_are_not_loaded_for_that(tmp_path, monkeypatch):
    def digest(folder, factor):
        (folder / "mine").mkdir(parents=True)
        (folder / "mine" / "__init__.py").write_text("")
        (folder / "mine" / "parts.py").write_text(f"def scaled(x):\n    return {factor} * x\n")
        (folder / "mine" / "loss.py").write_text("""
import mine.loss  # itself

def make(x):
    mine.loss
    import this
    from . import parts
    from .parts import scaled
    return scaled(parts.scaled(x))
""")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            found = code_digest(importlib.import_module("mine.loss").make)
        for name in ("mine", "mine.parts", "mine.loss"):
            del sys.modules[name]
        return found

    first, again, other = (digest(tmp_path / str(n), factor) for n, factor in enumerate((2, 2, 3)))
    assert first == again != other
    assert "this" not in sys.modules


def test_the_environment_and_locks_are_not_looked_into(monkeypatch):
    held = [os.environ, threading.Lock()]

    def uses():
        return held

    before = code_digest(uses)
    monkeypatch.setenv("ANYTHING", "else")
    held[1] = threading.Lock()
    assert code_digest(uses) == before


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4).T[::2],
        np.array(3, ">i2"),
        np.array(["2026-01-01", "NaT"], "M8[D]"),
        np.array(["a", "bc"]),
        np.zeros((2, 0)),
        np.zeros(2, []),
    ],
)
def test_an_arrays_digest_is_that_of_earlier_versions(array):
    content = hashlib.sha256(array.tobytes()).hexdigest()
    assert code_digest(array) == hashlib.sha256(f"ndarray\n{array.dtype}{array.shape}{content}".encode()).hexdigest()


@pytest.mark.parametrize("kind", ["f8", "M8[s]"])
def test_an_array_is_digested_where_it_is(kind):
    array = np.zeros(2**20, kind)
    tracemalloc.start()
    code_digest(array)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes / 8
