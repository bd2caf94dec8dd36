"""Faults met in public implementations of training blocks, each a row of its own.

What a row needs at length has its tests beside the part it concerns; here is the short form that would have caught it.
"""

import copy
import io
import pickle
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from blocks.contract import ATTRIBUTES, operators
from convfold import blocks
from convfold.errors import InvalidArgument
from support.names import ANYWHERE
from transform.models import noise, relative, seeded

NAMES = ANYWHERE
BRANCHED = ["acnet", "dbb", "mobileone", "repvgg"]
X = noise(2, 4, 9, 8)


def block(name: str, *arguments: Any, **options: Any) -> Any:
    return seeded(blocks.build(name, 2, *(arguments or (4, 4, 3)), **{"padding": 1, **options}))


def ring_and_interior(a: Tensor, b: Tensor) -> tuple[float, float]:
    error = (a - b).abs() / b.abs().max()
    inner = error[..., 1:-1, 1:-1].max().item()
    error[..., 1:-1, 1:-1] = 0
    return error.max().item(), inner


@pytest.mark.parametrize("name", ["dbb", "expandnet"])
def test_pitfall_02_a_biased_intermediate_under_zero_padding(name: str) -> None:
    module = block(name)
    border, inner = ring_and_interior(module.fold()(X), module(X))
    assert border <= 1e-12
    assert inner <= 1e-12
    # The naive fold lets the constant stand at the border too; there, and only there, it is wrong.
    if name == "expandnet":
        first, middle, last = module.layers
        naive = nn.Sequential(first, nn.Conv2d(16, 16, 3, padding=1), last).double()
        naive[1].load_state_dict(middle.state_dict())
        border, inner = ring_and_interior(naive(X), module.fold()(X))
        assert border > 1e-3
        assert inner <= 1e-12


def test_pitfall_03_the_border_in_training() -> None:
    """In full in tests/blocks/test_dbb_border.py; here: the border follows the batch, and carries gradients."""
    module = blocks.DBBConv2d(4, 4, 3, padding=1, bias=False).double().train()
    for norm in (module.dense_norm, module.point_norm, module.expand_norm, module.pool_norm):
        norm.eval()
    x = X.clone() + 1
    module(x)[..., 0, :].sum().backward()
    assert module.squeeze_norm.bias.grad.abs().max() > 1e-3
    # One line of pixels read by the ring: its gradient differs from one that treats the ring as a constant.
    ring = (module.squeeze_norm.weight.grad.clone(), module.squeeze_norm.bias.grad.clone())
    module.zero_grad()
    module(x)[..., 4, :].sum().backward()
    assert not torch.allclose(module.squeeze_norm.weight.grad, ring[0])


@pytest.mark.parametrize("leaf", ["running_mean", "running_var", "weight", "bias"])
@pytest.mark.parametrize("name", BRANCHED)
def test_pitfall_04_every_statistic_counts(name: str, leaf: str) -> None:
    """A fold that forgets one of the four tensors of any norm would be seen by the comparisons above."""
    module = block(name)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    truth = module(X)
    for norm in norms:
        forgetful = copy.deepcopy(module)
        twin = [m for m in forgetful.modules() if isinstance(m, nn.BatchNorm2d)][norms.index(norm)]
        with torch.no_grad():
            getattr(twin, leaf).fill_(1.0 if leaf in ("weight", "running_var") else 0.0)
        assert relative(forgetful.fold()(X), truth) > 1e-9
    assert relative(module.fold()(X), truth) <= 1e-12
    assert any((norm.weight < 0).any() and (norm.running_var < 1e-8).any() for norm in norms)


GRID = [
    {"stride": s, "dilation": d, "groups": g, "padding": p, "padding_mode": m}
    for s, d, g, p, m in product((1, (2, 1)), (1, (1, 2)), (1, 2, 4), (0, (1, 2)), ("zeros", "reflect"))
]


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_07_arguments_are_the_same_in_every_form(name: str) -> None:
    x = noise(2, 4, 9, 12)
    for arguments in GRID:
        module = block(name, 4, 8, (3, 5), **arguments)
        direct = nn.Conv2d(4, 8, (3, 5), **arguments).double()
        folded = module.fold()
        assert module(x).shape == folded(x).shape == direct(x).shape
        assert relative(folded(x), module(x)) <= 1e-12
        direct.load_state_dict(folded.state_dict())
        assert torch.equal(direct(x), folded(x))


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_08_every_attribute_of_the_folded_convolution(name: str) -> None:
    for arguments in (
        *GRID[::5],
        {"padding": "same"},
        {"padding": "valid"},
        {"padding": "same", "kernel_size": (4, 3)},
    ):
        options = {"kernel_size": (3, 5), **arguments}
        folded = blocks.build(name, 2, 4, 8, **options, dtype=torch.float64).eval().fold()
        plain = nn.Conv2d(4, 8, **options, dtype=torch.float64).eval()
        assert {a: getattr(folded, a) for a in ATTRIBUTES} == {a: getattr(plain, a) for a in ATTRIBUTES}
        assert (folded.weight.dtype, folded.weight.device) == (plain.weight.dtype, plain.weight.device)


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_12_nothing_unused_before_and_nothing_left_after(name: str) -> None:
    module = block(name).train()
    module(X).square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    plain = module.eval().fold()
    assert [n for n, _ in plain.named_parameters()] == ["weight", "bias"]
    assert list(plain.modules()) == [plain]
    assert not list(plain.buffers())


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_13_nothing_is_cached_outside_the_state(name: str) -> None:
    module = block(name)
    y = module(X)
    other = blocks.build(name, 2, 4, 4, 3, padding=1, dtype=torch.float64).eval()
    other(X)  # whatever were cached now would be stale after loading
    other.fold()
    other.load_state_dict(module.state_dict())
    buffer = io.BytesIO(pickle.dumps(module))
    for twin in (other, copy.deepcopy(module), pickle.load(buffer), copy.deepcopy(module).to("cpu").double()):
        assert torch.equal(twin(X), y)
        assert relative(twin.fold()(X), y) <= 1e-12
    half = copy.deepcopy(module).half()
    assert half(X.half()).dtype == torch.float16
    assert half.fold()(X.half()).dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_pitfall_14_folds_are_composed_in_double_and_cast_once(name: str, dtype: torch.dtype) -> None:
    model = nn.Sequential(block(name)).to(dtype)
    for folded in (model[0].fold(), convfold.fold(model, X.to(dtype))[0], convfold.fold(model)[0]):
        truth = copy.deepcopy(model).double()[0].fold()
        assert torch.equal(folded.weight, truth.weight.to(dtype))
        assert torch.equal(folded.bias, truth.bias.to(dtype))
    module = block(name)
    assert relative(module.fold()(X), module(X)) <= 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_20_no_block_starts_at_zero(name: str) -> None:
    torch.manual_seed(0)
    assert blocks.build(name, 2, 8, 8, 3).eval().fold().weight.abs().amax((1, 2, 3)).min() > 0.01
    with pytest.raises(InvalidArgument, match="D_mul is smaller than the kernel"):
        blocks.DOConv2d(4, 4, 3, D_mul=8)
    conv = nn.Conv2d(4, 4, 3).double()
    for started in (9, 14):
        module = convfold.expand(conv, "doconv", D_mul=started)
        assert relative(module(X), conv(X)) <= 1e-12


@pytest.mark.parametrize("name", BRANCHED)
def test_pitfall_25_every_branch_is_in_the_sum(name: str) -> None:
    module = block(name)
    truth = module(X)
    for norm in [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]:
        weight = norm.weight.detach().clone()
        with torch.no_grad():
            norm.weight *= 100
            assert relative(module.fold()(X), module(X)) <= 1e-12
            assert relative(module(X), truth) > 1e-3
            norm.weight.copy_(weight)


OPTIONS: dict[str, list[dict[str, Any]]] = {
    "acnet": [{}, {"norm": "scale"}],
    "dbb": [{}, {"norm": "scale"}, {"groups": 4}, {"groups": 4, "norm": "scale"}],
    "doconv": [{}, {"D_mul": 20}, {"D_mul": 4, "allow_rank_deficient": True}],
    "expandnet": [{}, {"form": "ck", "kernel_size": 5}, {"expansion": 1}],
    "mobileone": [{}, {"branches": 1}, {"norm": "scale"}],
    "orepa": [{}, {"kernel_size": 1}],
    "qarepvgg": [{}, {"pool": True}, {"norm": "scale"}, {"stride": 2}],
    "repvgg": [{}, {"norm": "scale"}, {"stride": 2}, {"kernel_size": 1}],
}


@pytest.mark.parametrize("mode", ["feature", "kernel"])
@pytest.mark.parametrize("name", NAMES)
def test_pitfall_27_every_mode_with_every_option(name: str, mode: str) -> None:
    for options, bias in product(OPTIONS[name], (True, False)):
        module = blocks.build(name, 2, 4, 4, **{"kernel_size": 3, **options}, bias=bias).double()
        module.mode = mode
        statistics = any(isinstance(m, nn.BatchNorm2d) for m in module.modules())
        if not (mode == "kernel" and statistics):
            module.train()(X)
        assert relative(module.eval()(X), module.fold()(X)) <= 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_28_one_convolution_runs(name: str) -> None:
    module, x = block(name), noise(13, 4, 6, 6)
    module.mode = "kernel"
    assert operators(module, x).convolved.count(13) == 1
    folded = module.fold()
    for _ in range(2):
        assert operators(folded, x).names.count("convolution") == 1
    assert operators(folded, x).names == operators(nn.Conv2d(4, 4, 3, padding=1).double(), x).names


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_pitfall_35_pooling_follows_padding_mode_and_dilation(mode: str) -> None:
    """DBB's pooling branch alone, against a depthwise convolution with a constant kernel."""
    arguments = {"groups": 4, "dilation": (2, 1), "padding": (2, 1), "padding_mode": mode, "bias": False}
    module = seeded(blocks.DBBConv2d(4, 4, 3, **arguments))
    with torch.no_grad():
        for norm in (module.dense_norm, module.expand_norm):
            norm.weight.zero_()
            norm.bias.zero_()
    mean = nn.Conv2d(4, 4, 3, **arguments).double()
    with torch.no_grad():
        mean.weight.fill_(1 / 9)
    truth = module.pool_norm(mean(X))
    assert relative(module(X), truth) <= 1e-12
    assert relative(module.fold()(X), truth) <= 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_36_deep_stacks_without_norms_are_bounded(name: str) -> None:
    torch.manual_seed(0)
    options = {"norm": "scale"} if name in BRANCHED else {}
    stack = nn.Sequential(*[blocks.build(name, 2, 16, 16, 3, padding=1, **options) for _ in range(6)])
    gains, x = [], torch.randn(8, 16, 8, 8)
    for layer in stack:
        y = layer(x)
        gains.append((y.std() / x.std()).item())
        x = y
    # A sum of branches with an identity gains in each layer, at most about as much as its branches add.
    assert 0.02 < torch.tensor(gains).prod().item() ** (1 / 6) < 3


@pytest.mark.parametrize("name", BRANCHED)
def test_pitfall_37_every_scale_is_in_the_fold(name: str) -> None:
    module = block(name, norm="scale")
    scales = [m for m in module.modules() if isinstance(m, blocks.Scale)]
    assert scales
    for scale in scales:
        other = copy.deepcopy(module)
        twin = [m for m in other.modules() if isinstance(m, blocks.Scale)][scales.index(scale)]
        with torch.no_grad():
            twin.weight.fill_(1.0)
        assert relative(other.fold()(X), module(X)) > 1e-6
    assert relative(module.fold()(X), module(X)) <= 1e-12
