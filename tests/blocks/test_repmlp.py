"""RepMLP: y = sigmoid(fc2(relu(fc1(mean(x))))) * P(x), P = fully connected plus local convolutions per partition."""

import copy
import pickle
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn

import convfold
from blocks.cases import normal
from blocks.contract import GRADIENT_CEILING, gradients, operators, same_values
from blocks.plain import norm
from blocks.suite import FAST, run
from convfold import blocks
from convfold.algebra.grouped import GroupedLinear
from convfold.blocks import RepMLP2d
from convfold.errors import InvalidArgument, NotFoldable
from support.make import randomise

# channels, partition, map, local kernels, share sets
SETTINGS: dict[str, tuple[int, tuple[int, int], tuple[int, int], tuple[int, ...], int]] = {
    "one set": (4, (3, 4), (6, 8), (1, 3), 1),
    "the whole map": (4, (5, 3), (5, 3), (1, 3, 5), 2),
    "a set per channel": (6, (2, 5), (4, 5), (3,), 6),
    "three sets, a kernel larger than the partition": (6, (3, 2), (9, 8), (1, 7), 3),
    "no local part": (8, (4, 2), (8, 6), (), 4),
    "one row": (4, (1, 6), (3, 12), (1, 3), 2),
}


class Partition(NamedTuple):
    """A random setting."""

    channels: int
    size: tuple[int, int]
    map: tuple[int, int]
    kernels: tuple[int, ...]
    groups: int
    norm: str
    seed: int


def build(name: str, **options: Any) -> tuple[Any, Tensor]:
    channels, (height, width), size, kernels, groups = SETTINGS[name]
    module = RepMLP2d(channels, channels, height, width, kernels, groups, 2, dtype=torch.float64, **options)
    randomise(module, torch.Generator().manual_seed(4))
    return module.eval(), normal(2, channels, *size, seed=5)


def published(module: Any, x: Tensor) -> Tensor:
    """The paper's steps one partition at a time: a grouped 1x1 on flattened maps, norms and depthwise kernels."""
    part, sets = module.partition, module.groups
    h, w = module.height, module.width
    y = torch.zeros_like(x)
    for top in range(0, x.shape[2], h):
        for left in range(0, x.shape[3], w):
            for first in range(0, x.shape[1], sets):
                where = (slice(None), slice(first, first + sets), slice(top, top + h), slice(left, left + w))
                maps = x[where]
                flat = maps.reshape(x.shape[0], sets * h * w, 1, 1)
                weight = part.linear.weight.reshape(sets * h * w, h * w, 1, 1)
                out = norm(F.conv2d(flat, weight, groups=sets).reshape(maps.shape), part.norm)
                for conv, its_norm in zip(part.local, part.local_norms, strict=True):
                    k = conv.kernel_size[0]
                    out = out + norm(F.conv2d(maps, conv.weight, None, 1, k // 2, 1, sets), its_norm)
                y[where] = out
    v = F.linear(x.mean(3).mean(2), module.squeeze.weight, module.squeeze.bias)
    v = F.linear(v.clamp_min(0), module.excite.weight, module.excite.bias)
    return y / (1 + torch.exp(-v))[:, :, None, None]


@st.composite
def partitions(draw: DrawFn) -> Partition:
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    groups = draw(st.integers(1, 4))
    return Partition(
        groups * draw(st.integers(1, 3)),
        (height, width),
        (height * draw(st.integers(1, 3)), width * draw(st.integers(1, 3))),
        tuple(draw(st.lists(st.sampled_from([1, 3, 5, 7]), max_size=3))),
        groups,
        draw(st.sampled_from(["bn", "bn", "scale"])),
        draw(st.integers(0, 2**16)),
    )


def check_partition(given: Partition) -> float:
    """Value, both modes, gradients and fold of one random setting; returns the worst relative error of the fold."""
    module = RepMLP2d(
        given.channels, given.channels, *given.size, given.kernels, given.groups, norm=given.norm, dtype=torch.float64
    )
    randomise(module, torch.Generator().manual_seed(given.seed)).eval()
    x = normal(2, given.channels, *given.map, seed=given.seed + 1)
    mask = rim(module, x)
    with torch.no_grad():
        truth = published(module, x)
    weights = normal(*x.shape, seed=3)
    module.mode = "feature"
    same_values(module(x).detach(), truth, mask)
    wide = gradients(module, x, weights)
    module.mode = "kernel"
    same_values(module(x).detach(), truth, mask)
    composed = gradients(module, x, weights)
    least = 1e-3 * max(gradient.abs().max().item() for gradient in wide.values())
    for key, gradient in wide.items():
        same_values(composed[key], gradient, ceiling=GRADIENT_CEILING, least=least)
    with torch.no_grad():
        return same_values(module.fold()(x), truth, mask)


def test_random_partitions() -> None:
    run(partitions(), check_partition, 25 if FAST else 200)


def rim(module: Any, x: Tensor) -> Tensor:
    """The positions on the border of their partition, where the local kernels read padding."""
    rows, columns = torch.arange(x.shape[2]) % module.height, torch.arange(x.shape[3]) % module.width
    return ((rows == 0) | (rows == module.height - 1))[:, None] | ((columns == 0) | (columns == module.width - 1))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_both_modes_and_the_fold_compute_the_papers_steps(name: str, scaled: bool) -> None:
    module, x = build(name, norm="scale" if scaled else "bn")
    mask = rim(module, x)
    with torch.no_grad():
        truth = published(module, x)
        for mode in ("feature", "kernel"):
            module.mode = mode
            same_values(module(x), truth, mask)
        before = copy.deepcopy(module.state_dict())
        folded = module.fold()
        same_values(folded(x), truth, mask)
        same_values(folded.fold()(x), truth, mask)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    groups = SETTINGS[name][-1]
    assert type(folded) is RepMLP2d
    assert type(folded.partition) is (nn.Linear if groups == 1 else GroupedLinear)
    assert {type(m) for m in folded.modules()} == {RepMLP2d, nn.Linear, type(folded.partition)}
    assert folded.partition.weight.shape == (groups * module.height * module.width, module.height * module.width)
    assert operators(folded, x).convolved == []


@pytest.mark.parametrize("name", SETTINGS)
def test_gradients_of_both_modes_agree(name: str) -> None:
    module, x = build(name)
    weights = normal(*x.shape, seed=7)
    module.mode = "feature"
    wide = gradients(module, x, weights)
    module.mode = "kernel"
    composed = gradients(module, x, weights)
    for key, gradient in wide.items():
        same_values(composed[key], gradient, ceiling=1e-10)


@pytest.mark.parametrize("leaf", ["running_mean", "running_var", "weight", "bias"])
def test_every_statistic_of_every_norm_reaches_the_fold(leaf: str) -> None:
    module, x = build("three sets, a kernel larger than the partition")
    truth = module(x)
    norms = [n for n, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 3
    for name in norms:
        other = copy.deepcopy(module)
        with torch.no_grad():
            getattr(other.get_submodule(name), leaf).fill_(1.0 if leaf in ("weight", "running_var") else 0.0)
        assert (other.fold()(x) - truth).abs().max() > 1e-6, name


@pytest.mark.parametrize("examples", [True, False])
def test_a_model_that_contains_it_folds(examples: bool) -> None:
    inner, x = build("one set")
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), inner).double()
    randomise(model[:2], torch.Generator().manual_seed(2)).eval()
    plain = convfold.fold(model, x if examples else None)
    same_values(plain(x), model(x))
    kinds = {type(m) for m in plain.modules()}
    assert nn.BatchNorm2d not in kinds
    assert blocks.repmlp.Perceptron not in kinds
    assert type(plain[3]) is RepMLP2d
    assert convfold.verify(model, plain, x)
    again = convfold.fold(plain, x if examples else None)
    assert repr(again) == repr(plain)
    # No size was taken for fixed: partitions of another map and another batch.
    other = normal(3, 4, 9, 12, seed=6)
    same_values(plain(other), model(other))
    if examples:
        decided = convfold.plan(model, x)
        assert decided.after.macs < decided.before.macs
        assert decided.after.operators < decided.before.operators


def test_training() -> None:
    module, x = build("one set")
    module.train()
    module(x).square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    with pytest.raises(NotFoldable, match=r"BatchNorm2d is not folded: it is in training mode.*Call eval\(\)"):
        module.fold()
    module.mode = "kernel"
    with pytest.raises(NotFoldable, match=r'BatchNorm2d is not folded: in training mode .*norm="scale"'):
        module(x)
    assert module.partition.norm.num_batches_tracked == 1


def test_a_folded_one_learns_and_keeps_frozen_what_was() -> None:
    module, x = build("one set")
    folded = module.fold()
    before = folded(x)
    before.square().mean().backward()
    torch.optim.SGD(folded.parameters(), lr=0.1).step()
    assert (folded(x) - before).abs().max() > 1e-3
    assert not any(p.requires_grad for p in module.requires_grad_(False).fold().parameters())


def test_copies_pickles_and_state_dicts_keep_the_function() -> None:
    module, x = build("a set per channel")
    fresh, _ = build("a set per channel")
    for parameter in fresh.parameters():
        nn.init.zeros_(parameter)
    fresh.load_state_dict(module.state_dict())
    for twin in (fresh, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x), module(x))
        assert torch.equal(twin.fold()(x), module.fold()(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_fold_in_low_precision_is_the_double_fold_cast_once(dtype: torch.dtype) -> None:
    module = build("one set")[0].to(dtype)
    folded, truth = module.fold(), copy.deepcopy(module).double().fold()
    assert torch.equal(folded.partition.weight, truth.partition.weight.to(dtype))
    assert torch.equal(folded.partition.bias, truth.partition.bias.to(dtype))


def test_repr_and_mode() -> None:
    module, _ = build("one set")
    assert "RepMLP2d(" in repr(module)
    assert "4, partition=3x4, groups=1, mode='feature'" in repr(module)
    with pytest.raises(InvalidArgument, match="RepMLP2d: mode is unknown: got 'fast', expected 'feature' or 'kernel'"):
        module.mode = "fast"
    assert blocks.build("repmlp", 2, 4, 4, 2, 2, norm="scale").mode == "kernel"


def test_a_map_that_the_partition_does_not_divide() -> None:
    module, _ = build("one set")
    for size in ((7, 8), (6, 9), (2, 4)):
        with pytest.raises(
            InvalidArgument,
            match=rf"RepMLP2d: the partition does not divide the map: got a map of {size[0]} x {size[1]}, expected "
            r"multiples of 3 x 4. Pad the map, or build the block with another height and width",
        ):
            module(normal(1, 4, *size))
    with pytest.raises(InvalidArgument, match="the partition does not divide the map"):
        module.fold()(normal(1, 4, 7, 8))


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((4, 8, 2, 2), {}, "RepMLP2d: repmlp keeps its channels: got 4 -> 8, expected equal"),
        ((4, 4, 2, 2), {"groups": 3}, "groups must divide the channels: got 3 share sets of 4 channels"),
        ((4, 4, 2, 2), {"groups": 0}, "groups must divide the channels: got 0 share sets"),
        ((4, 4, 2, 2), {"kernel_sizes": (1, 2)}, r"the local kernels must be odd: got \(1, 2\)"),
        ((4, 4, 0, 2), {}, r"height, width and reduction count from 1: got \(0, 2, 4\)"),
        ((4, 4, 2, 2), {"norm": "layer"}, "norm is unknown: got 'layer', expected 'bn' or 'scale'"),
    ],
)
def test_arguments_that_do_not_fit(arguments: Any, options: Any, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence) as caught:
        RepMLP2d(*arguments, **options)
    assert isinstance(caught.value, ValueError)


def test_it_starts_from_no_kernel() -> None:
    with pytest.raises(InvalidArgument, match=r"RepMLP2d: it cannot start from a given kernel.*exact=False"):
        RepMLP2d(4, 4, 2, 2).start(normal(4, 4, 3, 3))
