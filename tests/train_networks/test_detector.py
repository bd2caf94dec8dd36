"""The detector, wide and folded: all nine outputs element by element, at other sizes and batches too."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold.errors import InvalidArgument, NotEqual
from convfold.train.networks import Backbone, Neck, detector, detector_repvgg
from support.detectors import drawn, small

D = torch.float64
OUTPUTS = [f"{level}_{part}" for level in ("p3", "p4", "p5") for part in ("classes", "boxes", "objectness")]


@cache
def folded_plain() -> nn.Module:
    """The plain detector, with nothing but its batch normalisations folded."""
    return convfold.fold(drawn(small(upsample="nearest")), image(1, 64, 64))


def image(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 3, height, width, dtype=D, generator=torch.Generator().manual_seed(batch))


def apart(a: nn.Module, b: nn.Module, x: Tensor) -> float:
    """The largest difference of any output, over that output's largest value; the outputs are the nine."""
    with torch.no_grad():
        left, right = a(x), b(x)
    assert list(left) == list(right) == OUTPUTS
    errors = []
    for name in OUTPUTS:
        assert left[name].shape == right[name].shape
        scale = float(left[name].abs().max())
        # An output that no input moves would compare equal whatever the fold did.
        assert float((left[name] - left[name].mean((0, 2, 3), keepdim=True)).abs().max()) > 1e-6 * scale
        errors.append(float((left[name] - right[name]).abs().max()) / scale)
    return max(errors)


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    wide = drawn(convfold.expand(small(), "repvgg", where="neck.*"))
    return wide, convfold.fold(wide, image(2, 64, 96))


def test_the_fold_has_every_output_at_other_sizes_and_batches(pair: tuple[nn.Module, nn.Module]) -> None:
    wide, plain = pair
    for x in (image(2, 64, 96), image(1, 96, 64), image(3, 32, 128)):
        assert apart(wide, plain, x) <= 1e-12
        assert convfold.verify(wide, plain, x)


@pytest.mark.parametrize(
    ("block", "where"),
    [
        ("dbb", lambda name, _: name.startswith(("neck.merge4", "heads.1.class_path"))),
        ("acnet", lambda name, _: name.startswith("backbone.stage5") or name.endswith("_path.0")),
    ],
)
def test_blocks_fold_where_they_were_put(block: str, where: object) -> None:
    model = small(upsample="nearest")
    wide = convfold.expand(model, block, where=where)
    assert apart(model.eval(), wide.eval(), image(1, 64, 64)) <= 1e-12
    drawn(wide)
    x = image(1, 64, 64)
    plain = convfold.fold(wide, x)
    assert apart(wide, plain, x) <= 1e-12
    assert apart(wide, plain, image(2, 32, 96)) <= 1e-12
    # What is left is the plain detector with its batch normalisations folded: layer by layer the same shapes.
    own = folded_plain()
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in own.state_dict().items()}
    before, after, target = (convfold.cost(m, x) for m in (wide, plain, own))
    assert (after.macs, after.convolutions, after.params) == (target.macs, target.convolutions, target.params)
    assert after.convolutions < before.convolutions
    assert after.macs < before.macs


def test_expansion_keeps_the_function_in_training_mode_too() -> None:
    model = small()
    wide = convfold.expand(model, "repvgg", where="neck.*", example_inputs=image(2, 64, 64))
    assert apart(model.train(), wide.train(), image(2, 64, 64)) <= 1e-12


class Changed(nn.Module):
    """A model with one output changed by a little, or dropped."""

    def __init__(self, model: nn.Module, name: str, by: float | None) -> None:
        super().__init__()
        self.model, self.name, self.by = model, name, by

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = dict(self.model(x))
        if self.by is None:
            del found[self.name]
        else:
            found[self.name] = found[self.name] * (1 + self.by)
        return found


@pytest.mark.parametrize("name", OUTPUTS)
def test_verify_sees_one_output_of_nine(pair: tuple[nn.Module, nn.Module], name: str) -> None:
    wide, plain = pair
    x = image(1, 32, 64)
    assert not convfold.verify(wide, Changed(plain, name, 1e-9), x)
    with pytest.raises(NotEqual, match="the outputs have different structures"):
        convfold.verify(wide, Changed(plain, name, None), x)


def test_verify_sees_one_branch(pair: tuple[nn.Module, nn.Module]) -> None:
    wide, plain = pair
    broken = copy.deepcopy(wide)
    norms = [m for name, m in broken.named_modules() if name.startswith("neck.merge4") and hasattr(m, "running_mean")]
    with torch.no_grad():
        norms[-1].running_mean[0] += 1e-3
    assert apart(broken, plain, image(1, 64, 64)) > 1e-12
    assert not convfold.verify(broken, plain, image(1, 64, 64))


def test_the_default_sizes_are_those_of_the_paper() -> None:
    # Li et al., arXiv 2209.02976, table 1: YOLOv6-N has 4.3 M parameters and 11.1 G FLOPs, YOLOv6-S 17.2 M and 44.2 G.
    for width, parameters, flops in ((0.25, 4.3, 11.1), (0.5, 17.2, 44.2)):
        with torch.device("meta"):
            report = convfold.cost(detector(width=width).eval(), torch.empty(1, 3, 640, 640))
        assert round(report.params / 1e6, 1) == parameters
        # Theirs counts without the objectness and with the batch normalisations' few operations.
        assert abs(2 * report.macs / 1e9 / flops - 1) < 0.01


def test_the_command_lines_detector_is_wide_where_the_paper_is() -> None:
    with torch.device("meta"):
        wide = detector_repvgg()
    kinds = {name: type(module).__name__ for name, module in wide.named_modules()}
    blocks = [name for name, kind in kinds.items() if kind == "RepVGGConv2d"]
    assert blocks
    assert not any(name.startswith("heads.") for name in blocks)
    plain_3x3 = [n for n, m in wide.named_modules() if type(m) is nn.Conv2d and m.kernel_size == (3, 3)]
    inner = tuple(f"{name}." for name in blocks)
    assert all(name.startswith(("heads.", *inner)) for name in plain_3x3)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: detector(0), "num_classes: a head predicts classes: got 0, expected 1 or more."),
        (lambda: Backbone(width=0), "width: a width factor scales channels: got 0, expected more than 0."),
        (lambda: Backbone(depth=-1), "depth: a depth factor scales stacks: got -1, expected more than 0."),
        (lambda: Neck((8, 8, 8), width=float("nan")), "width: a width factor scales channels: got nan, expected"),
        (
            lambda: detector(upsample="bilinear"),
            "upsample: this is no way to upsample: got 'bilinear', expected ('transposed', 'nearest').",
        ),
    ],
)
def test_errors(make: object, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value).startswith(sentence)
