"""expand: which layer becomes what, what is kept, what is refused, and in which words."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from blocks.contract import operators
from convfold import blocks
from convfold.errors import InvalidArgument, InvalidType, UnknownName
from support.names import ANYWHERE
from transform.models import noise, relative, seeded


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_mode_dtype_layout_and_frozen_layers_are_kept(dtype: torch.dtype, training: bool) -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Dropout(), nn.Conv2d(6, 4, 3), nn.Conv2d(4, 4, 1))
    model = model.to(dtype).to(memory_format=torch.channels_last).train(training)
    model[3].requires_grad_(False)
    for name in ANYWHERE:
        wide = convfold.expand(model, name, where="[03]")
        assert {m.training for m in wide.modules()} == {training}
        assert {p.dtype for p in wide.parameters()} == {dtype}
        assert {p.requires_grad for p in wide[3].parameters()} == {False}
        assert all(p.requires_grad for p in wide[0].parameters())
        folded = convfold.fold(wide.eval()) if not training else wide.eval()[0].fold()
        kernel = folded[0].weight if isinstance(folded, nn.Sequential) else folded.weight
        assert kernel.is_contiguous(memory_format=torch.channels_last), name
        assert not kernel.is_contiguous()


@pytest.mark.parametrize("name", ANYWHERE)
def test_the_original_is_untouched_and_inplace_is_asked_for(name: str) -> None:
    model, x = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())).train(), noise(2, 3, 6, 6)
    state, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    convfold.plan_expansion(model, name, example_inputs=x)
    assert torch.equal(torch.get_rng_state(), generator), "planning draws no random numbers"
    wide = convfold.expand(model, name, example_inputs=x)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not {id(p) for p in wide.parameters()} & {id(p) for p in model.parameters()}
    truth = model.eval()(x)
    same = convfold.expand(model, name, inplace=True)
    assert same is model
    assert isinstance(model[0], blocks.Block)
    assert relative(model(x), truth) <= 1e-12


def test_where_is_a_glob_or_a_predicate() -> None:
    model = nn.Sequential()
    model.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    model.head = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 2))

    def chosen(where: Any, name: str = "expandnet") -> list[str]:
        return [c.path for c in convfold.plan_expansion(model, name, where).choices if c.becomes]

    assert chosen(None) == ["body.0", "body.1", "head.0"]
    assert chosen("body.*") == ["body.0", "body.1"]
    assert chosen("*.0") == ["body.0", "head.0"]
    assert chosen("*") == ["body.0", "body.1", "head.0", "head.2"]
    assert chosen(lambda path, module: getattr(module, "in_channels", 0) == 4) == ["body.1", "head.0"]
    assert chosen("*", "dbb") == ["body.0", "body.1", "head.0"]
    assert convfold.plan_expansion(model, "dbb", "*").choices[-1].reason == "dbb has no form for 0 dimensions"
    match = r"where matches no layer: got 'boby\.\*'\. Layers are named like .*body"
    with pytest.raises(InvalidArgument, match=match):
        convfold.expand(model, "dbb", "boby.*")
    with pytest.raises(InvalidArgument, match="where matches no layer"):
        convfold.expand(model, "dbb", lambda path, module: False)
    with pytest.raises(InvalidType, match="where is neither a glob nor a predicate: got int, expected str or"):
        convfold.expand(model, "dbb", 3)  # type: ignore[arg-type]


def test_the_choice_is_a_table_before_anything_is_touched() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.ConvTranspose2d(4, 4, 2))
    text = str(convfold.plan_expansion(model, "dbb"))
    lines = text.splitlines()
    assert lines[0].split() == ["layer", "type", "becomes", "takes", "in", "note"]
    assert [line.split()[0] for line in lines[2:]] == ["0", "2", "3"]
    assert "DBBConv2d" in lines[2]
    assert lines[2].split()[-3:] == ["1", "same", "function"]
    assert "left alone" in lines[3]
    assert "a 1x1 kernel has no smaller one to add" in lines[3]
    assert "a transposed convolution is not in the block's class" in lines[4]
    assert type(model[0]) is nn.Conv2d


def test_a_bare_convolution_becomes_a_bare_block() -> None:
    for dims, kind in {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}.items():
        conv, x = seeded(kind(3, 4, 3, padding=1)), noise(2, 3, *[5] * dims)
        for name in ANYWHERE:
            wide = convfold.expand(conv, name).eval()
            assert type(wide) is blocks.find(name, dims)
            assert relative(wide(x), conv(x)) <= 1e-12
    linear, x = seeded(nn.Linear(3, 4)), noise(2, 3)
    assert relative(convfold.expand(linear, "expandnet", "*")(x), linear(x)) <= 1e-12


@pytest.mark.parametrize("name", ANYWHERE)
def test_depthwise_grouped_and_pointwise_convolutions(name: str) -> None:
    layers = [nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 4, 3, groups=2)]
    model = seeded(nn.Sequential(*layers, nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 1))).eval()
    expansion, x = convfold.plan_expansion(model, name), noise(2, 4, 9, 9)
    widened = name in ("expandnet", "mobileone", "repvgg")
    assert [bool(c.becomes) for c in expansion.choices] == [True, True, True, widened, widened]
    wide = expansion.apply()
    assert relative(wide(x), model(x)) <= 1e-12
    assert relative(convfold.fold(wide, x)(x), model(x)) <= 1e-12
    asked = convfold.expand(model, name, where="*")
    assert all(isinstance(m, blocks.Block) for m in asked)
    assert relative(asked(x), model(x)) <= 1e-12


def test_unknown_blocks_options_and_empty_models() -> None:
    conv = nn.Conv2d(3, 4, 3)
    with pytest.raises(UnknownName, match=r"unknown block: got 'repvg'.*Did you mean repvgg"):
        convfold.expand(conv, "repvg")
    with pytest.raises(InvalidArgument, match=r"Sequential: the model has no convolution to expand: got 3 modules"):
        convfold.expand(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), "dbb")
    with pytest.raises(InvalidArgument, match=r"no layer can become doconv: got the model: .*own options: D_mul"):
        convfold.expand(conv, "doconv", expansion=3)
    with pytest.raises(InvalidArgument, match=r"no layer can become dbb: got 0: a 1x1 kernel has no smaller"):
        convfold.expand(nn.Sequential(nn.Conv2d(3, 4, 1)), "dbb")
    with pytest.raises(InvalidType, match=r"expand reads modules: got str, expected torch\.nn\.Module"):
        convfold.expand("model", "dbb")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"does not run on these example inputs .*got input 0 .*float32 \[1, 5"):
        convfold.expand(nn.Sequential(conv), "dbb", example_inputs=torch.zeros(1, 5, 8, 8))


def test_inexact_layers_are_refused_unless_asked_for() -> None:
    conv, x = seeded(nn.Conv2d(3, 4, 5)), noise(2, 3, 8, 8)
    with pytest.raises(InvalidArgument, match="the chain is too narrow to start from a given kernel"):
        convfold.expand(conv, "expandnet", form="ck", expansion=1)
    expansion = convfold.plan_expansion(conv, "expandnet", exact=False, form="ck", expansion=1)
    assert "a new function: it cannot start from this kernel" in str(expansion)
    wide = expansion.apply()
    assert wide(x).shape == conv(x).shape
    assert relative(wide(x), conv(x)) > 0.01
    deficient = convfold.expand(conv, "doconv", exact=False, D_mul=3, allow_rank_deficient=True)
    assert deficient(x).abs().max() > 0.01
    # What can be exact stays exact.
    assert relative(convfold.expand(conv, "expandnet", exact=False)(x), conv(x)) <= 1e-12


def test_tied_parametrised_and_foreign_convolutions_are_left_alone() -> None:
    class Own(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
            self.b.weight = self.a.weight
            self.own = Own(3, 3, 3)
            self.weighted = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3))
            self.read = nn.Conv2d(3, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.weighted(self.own(self.c(self.b(self.a(x)))))
            return nn.functional.conv_transpose2d(self.read(y), self.read.weight)

    for inputs in (noise(1, 3, 20, 20), None):
        choices = convfold.plan_expansion(Model().double(), "dbb", example_inputs=inputs).choices
        reasons = {c.path: c.reason for c in choices if not c.becomes}
        assert reasons == {
            "a": "its weight is shared with another module",
            "b": "its weight is shared with another module",
            "own": "Own computes something of its own",
            "weighted": "its weight is parametrised",
            "read": "its weights are read outside of its own call too",
        }


def test_blocks_are_not_expanded_again() -> None:
    model = nn.Sequential(blocks.DBBConv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    assert [c.path for c in convfold.plan_expansion(model, "acnet").choices] == ["1"]


def test_nested_options_reach_the_block_and_its_note() -> None:
    model, x = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))), noise(2, 3, 6, 6)
    nested = convfold.plan_expansion(model, "dbb", conv="doconv")
    assert nested.choices[0].reason == "same function"
    assert isinstance(nested.apply()[0].dense, blocks.DOConv2d)
    # Norms inside the dense branch use batch statistics of their own.
    inner = convfold.plan_expansion(model, "expandnet", conv="dbb")
    assert inner.choices[0].reason == "same function in eval mode only"
    assert relative(inner.apply().eval()(x), model.eval()(x)) <= 1e-12
    scaled = convfold.plan_expansion(model, "repvgg", norm="scale")
    assert (scaled.choices[0].norm, scaled.choices[0].reason) == ("", "same function")
    assert relative(scaled.apply().train()(x), copy.deepcopy(model).train()(x)) <= 1e-12


def test_every_convolution_of_the_folded_model_runs_once() -> None:
    model, x = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())).eval(), noise(2, 3, 6, 6)
    for name in ANYWHERE:
        plain = convfold.fold(convfold.expand(model, name), x)
        names = operators(plain, x).names
        assert names.count("convolution") == 1
        assert not [n for n in names if "batch_norm" in n]
