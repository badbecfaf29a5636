"""How close training comes to a GPU's limits: measures them, compares strategies and extrapolates a trial.

    python benchmarks/gpu.py                                 a few minutes on one H200
    python benchmarks/gpu.py --data-dir ~/data --minutes 20  and then the control on the real CIFAR-10 (control.py)
    python benchmarks/gpu.py --model small_cnn --device cpu --images 4096     every code path, on a CPU
    python benchmarks/gpu.py --batch-norm 32x8 48x8 64x8 64x4    and batch norm's kernels with these programs x warps

Needs no Ray, MLflow or Optuna: Python, torch with torchvision, scikit-learn, safetensors and fsspec suffice.

The serial limit is the time of a perfect program that runs one operation after another: all convolutions at the matrix
rate measured here, then every pass of batch norm, ReLU and addition over memory at the bandwidth measured here. With
passes fused as far as possible, forward reads for the statistics, then reads and writes to normalise; backward reads
twice for the sums, then reads twice and writes; a residual connection adds a read forward, and a read and a write
backward. A strategy's rate excludes its first epoch, which warms up, compiles and captures.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from interleaved import describe_machine
from torch import nn
from training import made_up, ours, usual

from hardtune import Recipe
from hardtune.data import Dataset
from hardtune.training.choices import resolved
from hardtune.training.fit import build_model

MEMBERS, EPOCHS, IMAGES = 8, 200, 50_000
"""The extrapolated trial: HBR's on CIFAR-10."""
CLOSING = 30
"""Seconds for reading the control's images and for its tables."""


def seconds_of(work: Callable[[], object], device: str, repeats: int = 10) -> float:
    """Mean seconds of ``work``, after three unmeasured calls."""
    for _ in range(3):
        work()
    wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    wait(device)
    return (time.perf_counter() - start) / repeats


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: str) -> float:
    """bfloat16 FLOP/s of a large matrix product of random numbers."""
    size = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: a @ b, device)


def bandwidth(device: str) -> float:
    """Bytes per second, reads plus writes, of a copy too large for any cache."""
    source = torch.empty(2**30 if device == "cuda" else 2**27, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds_of(lambda: target.copy_(source), device)


def cost_of_an_image(recipe: Recipe, shape: tuple[int, ...]) -> tuple[float, float]:
    """FLOPs of a training step, and bytes of its fused passes over memory, for one image; counted on the network."""
    from torch.utils.flop_counter import FlopCounterMode

    batch = 4
    model = build_model(recipe, shape, 10, seed=0, device="cpu")
    normalised: list[int] = []
    added: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda module, inputs, output: normalised.append(output.numel()))
        elif type(module).__name__ == "BasicBlock":
            module.register_forward_hook(lambda module, inputs, output: added.append(output.numel()))
    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.randn(batch, shape[2], *shape[:2])).sum().backward()
    return counter.get_total_flops() / batch, 2 * (8 * sum(normalised) + 3 * sum(added)) / batch


def rate(data: Dataset, recipe: Recipe, device: str, at_once: int, scores: bool = True) -> float:
    """Images per second of ``at_once`` networks that train in parallel, each in a thread."""
    together = threading.Barrier(at_once)

    def train(member: int) -> float:
        times: list[float] = []

        def on_epoch(epoch: int) -> None:
            if epoch == 1:
                together.wait()
            times.append(time.perf_counter())

        try:
            ours(data, recipe, device, seed=member, scores=scores, on_epoch=on_epoch)
        except BaseException:
            together.abort()  # else the others would wait for this one
            raise
        return (recipe.epochs - 1) * len(data.train) / (times[-1] - times[0])

    with ThreadPoolExecutor(at_once) as pool:
        return sum(pool.map(train, range(at_once)))


@contextlib.contextmanager
def batch_norm_in(programs: int, warps: int) -> Iterator[None]:
    """Run batch norm's kernels in at most ``programs`` programs of ``warps`` warps."""
    from hardtune.training import batch_norm

    before = {name: getattr(batch_norm, name) for name in ("PROGRAMS", "WARPS", "LINE")}
    batch_norm.PROGRAMS, batch_norm.WARPS, batch_norm.LINE = programs, warps, before["LINE"] * warps // before["WARPS"]
    try:
        yield
    finally:
        vars(batch_norm).update(before)


def strategies(
    data: Dataset, recipe: Recipe, device: str, at_once: Sequence[int], norms: Sequence[tuple[int, int]] = ()
) -> dict[str, float]:
    """Images per second by strategy, printed as measured.

    Args:
        at_once: how many networks in parallel.
        norms: programs and warps of batch norm's kernels to try, with the most networks in parallel.
    """
    found: dict[str, float] = {}

    def measure(name: str, **options: Any) -> None:
        try:
            found[name] = rate(data, **{"recipe": recipe, "device": device, "at_once": 1, **options})
        except RuntimeError as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"  {name:<44} failed: {reason:.160}", flush=True)
            return
        print(f"  {name:<44} {found[name]:>10,.0f} images/s", flush=True)

    measure("step by step", recipe=dataclasses.replace(recipe, cuda_graphs=False))
    for count in at_once:
        measure(f"CUDA graph, {count} at once" if device == "cuda" else f"{count} at once", at_once=count)
    measure("the same without scores, 1 at once", scores=False)
    if device == "cuda":
        for count in at_once:
            compiled = dataclasses.replace(recipe, compile=True)
            measure(f"CUDA graph, compiled, {count} at once", at_once=count, recipe=compiled)
        for programs, warps in norms:
            with batch_norm_in(programs, warps):
                measure(f"  with norms of {programs} x {warps} warps", at_once=max(at_once), recipe=compiled)
    measure("float32, 1 at once", recipe=dataclasses.replace(recipe, precision="float32"))
    measure("channels first, 1 at once", recipe=dataclasses.replace(recipe, layout="channels_first"))
    return found


def usual_rate(data: Dataset, recipe: Recipe, device: str) -> float:
    """Images a second of the usual loop's second epoch, on a quarter of the images."""
    data = made_up(len(data.train) // 4)
    one, two = (dataclasses.replace(recipe, epochs=epochs) for epochs in (1, 2))
    seconds = []
    for timed in (one, two):
        start = time.perf_counter()
        usual(data, timed, device)
        wait(device)
        seconds.append(time.perf_counter() - start)
    return len(data.train) / (seconds[1] - seconds[0])


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    flags.add_argument("--model", default="resnet18")
    flags.add_argument("--images", type=int, default=IMAGES, help="in a timed epoch (default: %(default)s)")
    flags.add_argument("--epochs", type=int, default=3, help="of a timed run; the first does not count (%(default)s)")
    flags.add_argument(
        "--at-once", type=int, nargs="+", default=[1, 2, 4, 8], help="networks beside each other (1 2 4 8)"
    )
    flags.add_argument(
        "--batch-norm", nargs="+", default=[], metavar="PROGRAMSxWARPS", help="of batch norm's kernels, to be tried"
    )
    flags.add_argument("--data-dir", type=Path, help="the folder with CIFAR-10, to train the control on")
    flags.add_argument("--minutes", type=float, default=20, help="for all of it: the control gets what is left (20)")
    flags.add_argument("--out", type=Path, default=Path("control-results"), help="the control's folder (%(default)s)")
    options = flags.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        flags.exit(2, "error: torch sees no GPU here; --device cpu runs every code path\n")
    if options.epochs < 2:
        flags.error("--epochs must be at least 2, since the first does not count")
    device, started = options.device, time.perf_counter()
    warnings.simplefilter("default")
    describe_machine()
    if device == "cuda":
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    data = made_up(options.images)
    recipe = resolved(Recipe(model=options.model, epochs=options.epochs), device)

    matrix, copied = matrix_rate(device), bandwidth(device)
    flops, passes = cost_of_an_image(recipe, data.train.images.shape[1:])
    limit = 1 / (flops / matrix + passes / copied)
    print(f"matrix products {matrix / 1e12:,.0f} TFLOP/s in bfloat16, copies {copied / 1e12:.2f} TB/s")
    print(f"{options.model}: {flops / 1e9:.2f} GFLOP and {passes / 1e6:.1f} MB of passes an image")
    work = MEMBERS * EPOCHS * IMAGES
    print(f"serial limit: {limit:,.0f} images/s; {MEMBERS} members x {EPOCHS} epochs: {work / limit:,.0f} s")
    print(f"strategies ({recipe.precision}, {recipe.layout.replace('_', ' ')}, all scores):")
    norms = [(int(programs), int(warps)) for programs, warps in (norm.split("x") for norm in options.batch_norm)]
    found = strategies(data, recipe, device, options.at_once, norms)
    theirs = usual_rate(data, recipe, device)
    print(f"  {'the usual loop':<44} {theirs:>10,.0f} images/s", flush=True)

    others = ("without scores", "float32", "channels first", "with norms")
    best = max((name for name in found if not any(other in name for other in others)), key=found.__getitem__)
    print(f"best: {best}: {found[best] / limit:.2f} of the serial limit, {found[best] / theirs:.1f} x the usual loop")
    print(f"{MEMBERS} members x {EPOCHS} epochs at that rate: {work / found[best] / 60:.1f} minutes (extrapolated)")
    if options.data_dir is not None:
        from control import train_control

        at_once = int(best.split(" at once")[0].split()[-1]) if " at once" in best else 1
        compiled = "compiled" in best
        left = options.minutes * 60 - (time.perf_counter() - started) - CLOSING
        epochs = int(min(EPOCHS, 0.9 * left * found[best] / (MEMBERS * IMAGES)))
        control = Recipe(
            model=options.model,
            epochs=max(1, epochs),
            members=MEMBERS,
            scoring_members=MEMBERS,
            validation="test",
            compile=compiled,
        )
        train_control(control, options.data_dir, device, at_once, options.out)


if __name__ == "__main__":
    main()
