"""Random graphs, folded: the fast share of ``python -m tests.deep_graphs``; and that the check can fail."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from support import random_check
from support.random_check import Mismatch, check_graph
from support.random_graphs import random_graph
from support.random_job import TWICE, Figures, figures_of

SHARE = 80
# Among the first graphs there must be all of these; a generator that lost one would still pass everything.
KINDS = {
    *("BatchNorm2d", "ScaledNorm", "batch_norm", "BatchNorm1d", "tokens_norm", "Linear", "Dropout", "Identity"),
    *("ReLU", "relu", "relu_", "silu", "sigmoid", "gate", "max_pool", "of two values", "ConvTranspose2d"),
    *("add", "sub", "iadd", "isub", "neg", "add alpha", "number - x", "mul constant", "add constant"),
    *("sub constant", "div constant", "imul constant", "cat", "chunk", "split", "slice", "select", "gather"),
    *("shuffle", "flip", "roll", "regroup", "flatten", "mean", "pool flat", "tokens mean", "to last", "from last"),
    *("to tokens", "from tokens", "pad", "pad constant", "pad reflect", "avg_pool", "adaptive_pool", "upsample"),
    *("pixel_shuffle", "pixel_unshuffle", "crop", "stride", "conv dense 1x1", "conv dense 3x3", "conv dense 2x2"),
    *("conv depthwise 3x3", "conv grouped 3x3", "conv reflect", "again conv dense 1x1"),
}


@pytest.mark.parametrize("seed", range(SHARE))
def test_a_random_graph_is_folded(seed: int) -> None:
    check_graph(random_graph(seed), twice=seed % TWICE == 0)


def test_a_seed_is_a_graph() -> None:
    for seed in range(20):
        first, second = random_graph(seed), random_graph(seed)
        assert str(first) == str(second)
        with torch.no_grad():
            a, b = first.model(*first.inputs), second.model(*second.inputs)
        assert torch.equal(torch.utils._pytree.tree_leaves(a)[0], torch.utils._pytree.tree_leaves(b)[0])
    assert str(random_graph(1)) != str(random_graph(2))


def test_the_generator_draws_every_kind() -> None:
    graphs = [random_graph(seed) for seed in range(700)]
    labels = {label for graph in graphs for label in graph.labels}
    assert labels >= KINDS
    assert {graph.flavour for graph in graphs} == {"flat", "nested"}
    assert {len(graph.inputs) for graph in graphs} == {1, 2}
    assert {graph.model.form for graph in graphs} == {"tuple", "list", "dict"}
    assert sum(len(graph.model.outputs) > 1 for graph in graphs) > 100
    assert any(isinstance(module, nn.Sequential) for graph in graphs for module in graph.model.modules())


def _pretend(monkeypatch: pytest.MonkeyPatch, change: Any, refusals: int = 0) -> None:
    """Have the check fold by deep copy and `change`."""

    def plan(model: nn.Module, inputs: Any) -> Any:
        made = SimpleNamespace(refusals=())

        def apply() -> nn.Module:
            made.refusals = ("a region",) * refusals
            folded = copy.deepcopy(model)
            return change(folded, model) or folded

        made.apply = apply
        return made

    monkeypatch.setattr(random_check, "convfold", SimpleNamespace(plan=plan, cost=random_check.convfold.cost))


def _first(model: nn.Module, least: int = 1) -> Any:
    return next(p for p in model.parameters() if p.dim() >= least)


class _Around(nn.Module):
    """The model with something behind it."""

    def __init__(self, model: nn.Module, behind: Any) -> None:
        super().__init__()
        self.model, self.behind = model, behind

    def forward(self, *given: Any) -> Any:
        return torch.utils._pytree.tree_map(self.behind, self.model(*given))


def _bound(batch: int) -> Any:
    def behind(y: torch.Tensor) -> torch.Tensor:
        return y.view(y.shape) if y.shape[0] == batch else y.view(-1)[: y.numel() + 1].view(batch, -1, 7, 7, 7)

    return behind


def _disturb(folded: nn.Module, _: nn.Module) -> None:
    with torch.no_grad():
        _first(folded, 2).view(-1)[0] += 1e-9


def _touch(_: nn.Module, model: nn.Module) -> None:
    with torch.no_grad():
        _first(model).view(-1)[0] *= 1 + 1e-15


@pytest.mark.parametrize(
    ("change", "refusals", "sentence"),
    [
        (_disturb, 0, "error .* on inputs"),
        (_touch, 0, "the original was changed"),
        (lambda folded, _: _Around(folded, lambda y: y + 0), 0, "more operators"),
        (lambda folded, _: _Around(folded, lambda y: y * float("nan")), 0, "error inf"),
        (lambda folded, _: _Around(folded, lambda y: y.unsqueeze(0)), 0, "output 0 is"),
        (lambda folded, _: _Around(folded, lambda y: y.float()), 0, "output 0 is torch.float32"),
        (lambda folded, _: _Around(folded, lambda y: [y]), 0, "the outputs are"),
        (lambda folded, _: _Around(folded, _bound(2)), 0, "another batch"),
        (lambda folded, _: None, 1, "rolled back: a region"),
    ],
)
def test_the_check_sees(monkeypatch: pytest.MonkeyPatch, change: Any, refusals: int, sentence: str) -> None:
    graph = next(g for g in map(random_graph, range(50)) if g.inputs[0].shape[0] == 2 and _plain(g))
    _pretend(monkeypatch, lambda folded, model: None)
    check_graph(graph, twice=True)
    monkeypatch.undo()
    _pretend(monkeypatch, change, refusals)
    with pytest.raises(Mismatch, match=sentence):
        check_graph(graph)


def _plain(graph: Any) -> bool:
    """Whether its first weight reaches its output at full size."""
    model = copy.deepcopy(graph.model)
    with torch.no_grad():
        before = torch.utils._pytree.tree_leaves(model(*graph.inputs))[0]
        _first(model, 2).view(-1)[0] += 1e-3
        after = torch.utils._pytree.tree_leaves(model(*graph.inputs))[0]
    return bool((after - before).abs().max() > 1e-5)


def test_figures_add_up_and_come_back() -> None:
    whole, parts = figures_of(range(6)), Figures()
    for seeds in (range(2), range(2, 6)):
        parts.join(Figures.from_dict(figures_of(seeds).to_dict()))
    assert parts.to_dict() == whole.to_dict()
    assert whole.graphs == 6
    assert whole.failures == {}


def test_a_failure_is_counted_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(random_check, "convfold", SimpleNamespace(plan=refuse))
    figures = figures_of(range(3, 5))
    assert figures.failures == {3: "ZeroDivisionError: by zero", 4: "ZeroDivisionError: by zero"}
    assert Figures.from_dict(figures.to_dict()).failures == figures.failures
