"""Finds batch norm, residual addition and ReLU in a network that is being compiled, and fuses them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._inductor.compile_fx import compile_fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.nn import functional as F

from hardtune.training import batch_norm
from hardtune.training.batch_norm import NORMALISE, NORMALISE_BACKWARD

_RELU = {F.relu, torch.relu, "relu", "relu_"}
_ADD = {operator.add, operator.iadd, torch.add, "add", "add_"}


def fusing(network: fx.GraphModule, inputs: Sequence[Tensor]) -> Any:
    """A backend of ``torch.compile``: inductor, with ``batch_norm``'s kernels where they fit."""
    fuse(network.graph)
    network.recompile()
    return compile_fx(network, inputs, config_patches={"post_grad_custom_pre_pass": AddOnTheWay()})


def fuse(graph: fx.Graph) -> int:
    """Replace each batch norm that ``normalise`` supports, and what follows, by it; returns how many there were."""
    averages: dict[float, tuple[list[fx.Node], list[fx.Node]]] = {}
    norms = [node for node in graph.nodes if _fits(node)]
    for norm in norms:
        x, running_mean, running_var, weight, bias, _, momentum, eps = norm.args
        chain, residual = [norm], None
        added = _only_user(norm, _ADD)
        if added is not None and _only_user(added, _RELU) is not None:
            residual = _added_to(norm, added)
            chain += [added] if residual is not None else []
        rectified = _only_user(chain[-1], _RELU)
        with graph.inserting_before(chain[-1]):  # the residual may be changed in place before ReLU
            fused = graph.call_function(NORMALISE, (x, residual, weight, bias, eps, rectified is not None))
            y, mean, variance = (graph.call_function(operator.getitem, (fused, place)) for place in range(3))
            y.meta["example_value"] = norm.meta["example_value"]
            if running_mean is not None:
                running, found = averages.setdefault(momentum, ([], []))
                running += [running_mean, running_var]
                found += [graph.call_method("detach", (each,)) for each in (mean, variance)]
        chain += [rectified] if rectified is not None else []
        chain[-1].replace_all_uses_with(y)
        for old in reversed(chain):
            graph.erase_node(old)
    with graph.inserting_before(graph.output_node()):
        for momentum, (running, found) in averages.items():
            graph.call_function(torch._foreach_lerp_, (running, found, momentum))
    _count_together(graph)
    return len(norms)


def _fits(node: fx.Node) -> bool:
    """Whether it is a batch norm in training mode, on channels-last images, with a fixed momentum.

    Its running averages are updated at the end of the graph, so nothing else may read or change them.
    """
    if node.target is not F.batch_norm or len(node.args) != 8 or node.kwargs:
        return False
    x, mean, var, weight, bias, training, momentum, _ = node.args
    if training is not True or weight is None or bias is None or not isinstance(momentum, float):
        return False
    value, affine = _example(x), (_example(weight), _example(bias))
    return (
        value.ndim == 4
        and value.is_contiguous(memory_format=torch.channels_last)
        and value.shape[1] < value.numel() < 2**31
        and all(each.dtype == torch.float32 and each.is_contiguous() for each in affine)
        and _moves_alone(mean)
        and _moves_alone(var)
    )


def _moves_alone(average: Any) -> bool:
    return average is None or len(average.users) == 1


def _example(node: Any) -> Any:
    return node.meta["example_value"]


def _only_user(node: fx.Node, targets: set[Any]) -> fx.Node | None:
    """The only user of ``node``, if it has just one that calls one of ``targets``."""
    user = next(iter(node.users)) if len(node.users) == 1 else None
    return user if user is not None and user.target in targets else None


def _added_to(node: fx.Node, added: fx.Node) -> fx.Node | None:
    """What ``added`` adds to ``node``, if it is of the same shape, type and layout and not itself changed in place."""
    if len(added.args) != 2 or added.kwargs:
        return None
    one, other = added.args
    if other is node and added.target in (operator.add, torch.add, "add"):
        one, other = other, one
    if one is not node or not isinstance(other, fx.Node) or other is node:
        return None
    here, there = _example(node), _example(other)
    if not isinstance(there, Tensor) or (here.shape, here.dtype) != (there.shape, there.dtype):
        return None
    return other if there.is_contiguous(memory_format=torch.channels_last) else None


def _count_together(graph: fx.Graph) -> None:
    """Update the batch counters of all batch norms in one operation: each would be a kernel for one number.

    Left out are those that are read, or updated twice, since they are needed before the end.
    """
    counts = [
        node
        for node in graph.find_nodes(op="call_method", target="add_")
        if node.args[0].op == "placeholder" and len(node.args[0].users) == 1
        if node.args[1:] == (1,) and not node.kwargs and not node.users
    ]
    if len(counts) > 1:
        with graph.inserting_before(graph.output_node()):
            graph.call_function(torch._foreach_add_, ([node.args[0] for node in counts], 1))
        for node in counts:
            graph.erase_node(node)


class AddOnTheWay(CustomGraphPass):
    """If an output gets two gradients, lets ``normalise_backward`` add them: one pass less over memory."""

    def __call__(self, graph: fx.Graph) -> None:
        for node in graph.find_nodes(op="call_function", target=NORMALISE_BACKWARD):
            gradient, second, *others = node.args
            if second is not None or gradient.target is not torch.ops.aten.add.Tensor or len(gradient.users) > 1:
                continue
            summands = gradient.args
            if not gradient.kwargs and all(_is_like(summand, gradient) for summand in summands):
                node.args = (*summands, *others)
                graph.erase_node(gradient)

    def uuid(self) -> Any:
        """The key, in the compiler's caches, of this pass and the gradients that it finds in a graph."""
        return get_hash_for_files((__file__, batch_norm.__file__))


def _is_like(summand: Any, total: fx.Node) -> bool:
    if not isinstance(summand, fx.Node):
        return False
    one, other = summand.meta["val"], total.meta["val"]
    return (one.shape, one.dtype) == (other.shape, other.dtype)
