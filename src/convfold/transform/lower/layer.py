"""One layer, rewritten by the rules until it breaks none, and compared with what it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from convfold.algebra import Conv, ConvTranspose, apply, frozen, has_op, magnitude, op, pointwise, twin
from convfold.algebra.readings.length import path_length
from convfold.algebra.readings.module import layout
from convfold.transform.lower.emit import conv_steps, joined
from convfold.transform.lower.rules import Rule
from convfold.transform.lower.seen import Seen, seen_linear, seen_op
from convfold.transform.lower.steps import LastAxis, Stack
from convfold.transform.lower.target import Target
from convfold.verify.certificate import Certificate, Probe, compare

__all__ = ["LAYERS", "Lowered", "Unreached", "compared", "lowered_layer", "seen_of"]

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
# Rules may undo each other: what still breaks one that was applied so often above it is not reached.
_MOST = 4


class Unreached(Exception):
    """The rules do not bring this operator to the target; the message says why."""


@dataclass
class Lowered:
    """What stands for a layer: the module, the rules that made it, and why it may multiply more."""

    module: nn.Module
    rules: list[str] = field(default_factory=list)
    dearer: list[str] = field(default_factory=list)


def seen_of(layer: nn.Module, shapes: list[tuple[int, ...]]) -> Seen:
    """The numbers of a layer that is called on inputs of these shapes."""
    if isinstance(layer, nn.Linear):
        return seen_linear(layer.weight, any(len(shape) > 2 for shape in shapes))
    return seen_op(_read(layer))


def _read(layer: nn.Module) -> Conv | ConvTranspose:
    found = op(layer)
    assert isinstance(found, (Conv, ConvTranspose))  # LAYERS are read as these
    return frozen(found, found.weight.dtype)  # type: ignore[return-value]


def lowered_layer(layer: nn.Module, target: Target, shapes: list[tuple[int, ...]]) -> Lowered:
    """The layer without anything that breaks the target, in its own precision, mode and memory format.

    Raises Unreached where the rules do not come to an end, or a Linear is called on inputs of several kinds.
    """
    result = Lowered(layer)
    if isinstance(layer, nn.Linear):
        seen = seen_of(layer, shapes)
        rule = target.broken(seen)
        assert rule is not None  # the caller saw to it
        inner = Lowered(_as_conv(layer, shapes))
        inner.module = _rewritten(inner.module, target, [], inner)
        result = Lowered(LastAxis(inner.module), inner.rules, inner.dearer)
    else:
        result.module = _rewritten(layer, target, [], result)
    trained = any(p.requires_grad for p in layer.parameters())
    result.module = result.module.to(memory_format=layout(layer.weight))  # type: ignore[arg-type, call-overload]
    result.module.requires_grad_(trained).train(layer.training)
    return result


def _as_conv(layer: nn.Linear, shapes: list[tuple[int, ...]]) -> nn.Module:
    """The 1x1 convolution that a Linear is on maps."""
    ranks = sorted({len(shape) for shape in shapes})
    if len(ranks) > 1 or ranks[0] > 5:
        raise Unreached(f"it is called on tensors of {' and '.join(map(str, ranks))} axes, expected one of 3, 4 or 5")
    point = pointwise(layer.weight.detach(), None if layer.bias is None else layer.bias.detach(), ranks[0] - 2)
    return joined(conv_steps(point))


def _rewritten(module: nn.Module, target: Target, above: list[Rule], result: Lowered) -> nn.Module:
    """`module` with each of its convolutions rewritten until it breaks no rule; `above` are the rules on the way."""
    found = {path: m for path, m in module.named_modules() if isinstance(m, LAYERS) and has_op(m)}
    for path, layer in found.items():
        operator = _read(layer)
        seen = seen_op(operator)
        rule = target.broken(seen)
        if rule is None:
            continue
        if above.count(rule) == _MOST:
            raise Unreached(f"its rules undo each other: {seen} still breaks {rule}, rewritten {_MOST} times")
        if rule.name not in result.rules:
            result.rules.append(rule.name)
        if (reason := rule.why_dearer(seen)) and reason not in result.dearer:
            result.dearer.append(reason)
        steps = [_rewritten(step, target, [*above, rule], result) for step in rule.rewrite(operator)]
        if not path:
            return joined([part for step in steps for part in (step if type(step) is nn.Sequential else [step])])
        parent, _, name = path.rpartition(".")
        module.get_submodule(parent)._modules[name] = joined(steps)
    return module


def compared(before: nn.Module, after: nn.Module, shapes: list[tuple[int, ...]]) -> Certificate:
    """Both in float64 on random inputs of these shapes, on copies.

    Rewriting moves weights and adds zeros, so both add up the same products in another order: with L of them,
    ``|before(x) - after(x)| <= gamma_L * S``, S the sum of the absolute terms and L the longest path through either
    twice (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). Only a `Stack` has other weights: there
    the unit is that of the weights, times its amplification.
    """
    wide, other = (twin(m).eval().to(torch.float64) for m in (before, after))
    own = frozen(op(wide), torch.float64)
    stacks = [m for m in after.modules() if isinstance(m, Stack)]
    convs = [m for m in after.modules() if isinstance(m, LAYERS)]
    # A stack's convolutions run one after the other, and each step between them may add.
    length = 2 * (
        path_length(own) + sum(path_length(op(m)) for m in convs) if stacks else path_length(own) + len(convs)
    )
    weight: Any = next(iter(before.parameters()))
    unit = torch.finfo(weight.dtype if stacks else torch.float64).eps / 2
    bound = max((m.amplification for m in stacks), default=1.0) * length * unit / (1 - length * unit)
    generator = torch.Generator().manual_seed(0)
    probes, inputs = [], []
    for shape in dict.fromkeys(shapes):
        x = torch.randn(shape, generator=generator, dtype=torch.float64).to(weight.device)
        with torch.no_grad():
            scale = float(apply(magnitude(own), x.abs()).abs().max())
            error, border, interior = compare(wide(x), other(x), scale)
        probes.append(Probe("random", (shape,), error, bound, border, interior))
        inputs.append(x)
    return Certificate.of(probes, inputs, "the sum of the absolute terms", "float64")
