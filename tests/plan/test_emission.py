"""The user's own module back: what stays, what is replaced, what is rewritten, and that it lives on."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold.errors import ConvfoldWarning, NotFoldable
from convfold.graph.capture import capture
from convfold.graph.captured import Captured
from convfold.graph.inputs import example_inputs
from convfold.graph.joins import plus
from convfold.graph.maps import after
from convfold.graph.program import Linear, Program, ShiftPlus, Term
from convfold.graph.weights import Weights
from convfold.plan.emission import Emitted, check, emit, executed, parts
from convfold.plan.emission.built import convolution
from convfold.plan.emission.rewritten import Rewritten
from convfold.plan.search.rewrite import push
from support.make import randomise


def _planned(program: Program) -> Program:
    """Every sum written out over what no other value reads, branches of one source added up: a trivial plan."""
    nodes = dict(program.nodes)
    changed = True
    while changed:
        changed = False
        plan = replace(program, nodes=nodes)
        live = set(plan.live())
        readers: dict[int, list[int]] = {v: [] for v in live}
        for v in live & nodes.keys():
            for source in nodes[v].inputs:
                readers[source].append(v)
        for v in sorted(live & nodes.keys()):
            node = nodes[v]
            if not isinstance(node, Linear):
                continue
            for term in node.terms:
                below = nodes.get(term.source)
                if not isinstance(below, Linear) or len(set(readers[term.source])) > 1:
                    continue
                try:
                    nodes[v] = _inlined(program, node, term, below)
                except NotFoldable:
                    continue
                changed = True
                break
            if changed:
                break
    return replace(program, nodes=nodes)


def _inlined(program: Program, node: Linear, term: Term, below: Linear) -> Linear:
    maps: dict[int, list] = {}
    for other in node.terms:
        parts = (
            [(after(t.map, other.map), t.source) for t in below.terms] if other is term else [(other.map, other.source)]
        )
        for m, source in parts:
            maps.setdefault(source, []).append(m)
    shifts, axis = [] if node.shift is None else [node.shift], node.axis
    if below.shift is not None:
        shift, at = push(below.shift, below.axis, term.map, program.values[term.source])
        shifts, axis = [*shifts, shift], at if axis is None else axis
    whole = None if not shifts else shifts[0] if len(shifts) == 1 else ShiftPlus(tuple(shifts))
    return Linear(tuple(Term(plus(tuple(m)), s) for s, m in maps.items()), whole, axis)


def _emitted(model: nn.Module, x: Tensor) -> tuple[Captured, Emitted]:
    captured = capture(model, example_inputs(model, x))
    emitted = emit(captured, _planned(captured.program), model, Weights)
    assert all(emitted.certificates.values())
    return captured, emitted


def _check_equal(model: nn.Module, folded: nn.Module, *inputs: Tensor) -> None:
    with torch.no_grad():
        expected, got = model(*inputs), folded(*inputs)
    for a, b in zip(*map(torch.utils._pytree.tree_leaves, (expected, got)), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9)


def _random(model: nn.Module, seed: int = 0) -> nn.Module:
    return randomise(model.double(), torch.Generator().manual_seed(seed)).eval()


X = torch.randn(2, 4, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    """RepVGG's, with a dropout behind it."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.point = nn.Conv2d(channels, channels, 1)
        self.skip = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.aux = nn.Linear(2, 2)  # only in training

    def forward(self, x: Tensor, scale: float = 1.0, *, flag: bool = False) -> Tensor:
        return self.drop(self.act(self.dense(x) + self.point(x) + self.skip(x)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + x)


def test_siblings_are_replaced_where_they_stand() -> None:
    model = _random(nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()))
    before = copy.deepcopy(model.state_dict())
    captured, emitted = _emitted(model, X)
    assert [type(m) for m in emitted.module] == [nn.Conv2d, nn.Identity, nn.ReLU]
    assert type(emitted.module) is nn.Sequential
    assert sorted(emitted.replaced) == [("0", "replaced"), ("1", "removed")]
    assert emitted.keys["0.weight"] == "0.weight"
    assert emitted.keys["1.running_var"] == "0.bias"
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    _check_equal(model, emitted.module, X)
    assert check(captured, captured.program, emitted, range(9)).error < 1e-12


def test_a_residual_block_keeps_its_forward() -> None:
    model = _random(Residual())
    _, emitted = _emitted(model, X)
    assert type(emitted.module) is Residual
    assert isinstance(emitted.module.bn1, nn.Identity)
    assert isinstance(emitted.module.bn2, nn.Identity)
    _check_equal(model, emitted.module, X)


def test_a_branched_block_is_rewritten_and_keeps_its_class_and_names() -> None:
    model = _random(Block())
    _, emitted = _emitted(model, X)
    folded = emitted.module
    assert isinstance(folded, Block)
    assert type(folded).__name__ == "Block"
    assert inspect.getsource(folded.forward) == (
        "def forward(self, x, scale=1.0, *, flag=False):\n"
        "    x = self.dense(x)\n"
        "    x = self.act(x)\n"
        "    return self.drop(x)\n"
    )
    assert isinstance(folded.dense, nn.Conv2d)
    assert isinstance(folded.point, nn.Identity)
    assert isinstance(folded.aux, nn.Linear)
    assert emitted.keys["point.weight"] == "dense.weight"
    _check_equal(model, folded, X)
    _check_equal(model, folded, X[:1, :, :5, :4])


def test_a_rewritten_model_lives_on() -> None:
    model = _random(nn.Sequential(Block(), Block()))
    _, emitted = _emitted(model, X)
    folded = emitted.module
    buffer = io.BytesIO()
    torch.save(folded, buffer)
    buffer.seek(0)
    copies = [pickle.loads(pickle.dumps(folded)), copy.deepcopy(folded), torch.load(buffer, weights_only=False)]
    for other in copies:
        assert isinstance(other[0], Block)
        assert isinstance(other[0], Rewritten)
        assert torch.equal(other(X), folded(X))
    folded.train()
    assert not torch.equal(folded(X), folded(X))
    folded(X).sum().backward()
    torch.optim.SGD(folded.parameters(), lr=0.1).step()
    assert not torch.equal(copies[0].eval()(X), folded.eval()(X))
    copies[0].load_state_dict(folded.state_dict())
    assert torch.equal(copies[0](X), folded(X))


def test_compilers_and_exporters_read_the_new_source() -> None:
    model = _random(nn.Sequential(Block(), Residual()))
    _, emitted = _emitted(model, X)
    folded = emitted.module
    expected = folded(X)
    torch.testing.assert_close(torch.compile(folded, backend="eager", fullgraph=True)(X), expected)
    torch.testing.assert_close(torch.export.export(folded, (X,)).module()(X), expected)


def test_a_module_called_twice_is_replaced_only_where_its_calls_agree() -> None:
    class Twice(nn.Module):
        def __init__(self, norms: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
            self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(norms))

        def forward(self, x: Tensor) -> list[Tensor]:
            y = [torch.relu(self.norms[0](self.conv(x)))]
            return [*y, torch.relu(self.norms[-1](self.conv(y[0] * y[0])))]

    for norms in (1, 2):
        model = _random(Twice(norms))
        _, emitted = _emitted(model, X)
        assert isinstance(emitted.module, Rewritten) == (norms == 2)
        _check_equal(model, emitted.module, X)


def test_a_module_that_other_calls_need_stays() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"a": torch.relu(self.norm(self.conv(x))), "b": torch.sigmoid(self.conv(x * x))}

    model = _random(Mixed())
    _, emitted = _emitted(model, X)
    assert torch.equal(emitted.module.conv.weight, model.conv.weight)
    assert isinstance(emitted.module(X), dict)
    _check_equal(model, emitted.module, X)


def test_a_norm_that_is_its_module_s_own_operator_loses_only_its_own_part() -> None:
    class NormAct(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(super().forward(x))

    model = _random(nn.Sequential(nn.Conv2d(4, 4, 3, stride=2), NormAct(4)))
    _, emitted = _emitted(model, X)
    norm = emitted.module[1]
    assert isinstance(norm, NormAct)
    assert norm.weight is None
    assert set(emitted.module.state_dict()) == {"0.weight", "0.bias"}
    _check_equal(model, emitted.module, X)


@pytest.mark.parametrize("padding", [(1, 0, 1, 0), (2, 1, 0, 3)])
def test_padding_that_no_convolution_holds_is_padded_before(padding: tuple[int, ...]) -> None:
    model = _random(nn.Sequential(nn.ZeroPad2d(padding), nn.Conv2d(4, 4, 2), nn.BatchNorm2d(4), nn.ReLU()))
    _, emitted = _emitted(model, X)
    _check_equal(model, emitted.module, X)


def test_the_structure_alone_has_no_memory() -> None:
    model = _random(nn.Sequential(Block(), Residual()))
    captured = capture(model, example_inputs(model, X))
    plan = _planned(captured.program)
    hollow, full = emit(captured, plan, model, None).module, emit(captured, plan, model, Weights).module
    assert all(tensor.is_meta for tensor in (*hollow.parameters(), *hollow.buffers()))
    assert {n: t.shape for n, t in hollow.state_dict().items()} == {n: t.shape for n, t in full.state_dict().items()}


def test_a_wrong_definition_is_seen() -> None:
    model = _random(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    captured = capture(model, example_inputs(model, X))
    plan = _planned(captured.program)
    (result,) = plan.outputs
    node = plan.nodes[result]
    assert isinstance(node, Linear)
    wrong = replace(plan, nodes={**plan.nodes, result: replace(node, shift=None, axis=None)})
    emitted = emit(captured, wrong, model, Weights)
    assert not check(captured, wrong, emitted, [result])


def _no_bias(module: Any) -> None:
    module.bias.data.zero_()


def _wrong_bias(module: Any) -> None:
    module.bias = nn.Parameter(torch.cat([module.bias.data, module.bias.data]))


def _other_stride(module: Any) -> None:
    module.stride = (2, 2)


@pytest.mark.parametrize("fault", [_no_bias, _wrong_bias, _other_stride])
def test_what_is_emitted_is_compared_and_not_what_it_means(
    fault: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in the module itself, which the plan knows nothing of."""

    def faulty(*args: Any) -> nn.Module:
        module = convolution(*args)
        if args[1] is not None:
            fault(module)
        return module

    model = _random(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    for reader in (parts, executed):
        monkeypatch.setattr(reader, "convolution", faulty)
    with pytest.warns(ConvfoldWarning, match="it was rolled back"):
        kept = convfold.fold(model, X)
    torch.testing.assert_close(kept(X), model(X), rtol=0, atol=0)


def test_training_flags_gradients_types_and_formats_are_the_original_s() -> None:
    model = _random(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())).float()
    model[0].to(memory_format=torch.channels_last).requires_grad_(False)
    model[1].requires_grad_(False)
    _, emitted = _emitted(model, X.float())
    conv = emitted.module[0]
    assert conv.weight.dtype is torch.float32
    assert not conv.weight.requires_grad
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not conv.weight.is_contiguous()
