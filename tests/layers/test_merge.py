"""Split-transform-merge: four merges, two splits, any branch."""

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import convfold
from blocks.cases import Case, normal
from blocks.contract import same_values
from blocks.plain import conv, padded
from convfold import layers
from convfold.errors import InvalidArgument
from layers.suite import LayerSuite, kept
from layers.test_shuffle import dealt, shuffled
from support.make import randomise

MERGES = ["concat", "sum", "mean", "weighted_sum", "shuffle"]


def merged(module: Any, case: Case, x: Tensor) -> Tensor:
    a, o = case.arguments, case.options
    x, count = padded(x, a), o["branches"]
    shares = x.chunk(count, 1) if o["split"] == "share" else [x] * count
    done = [
        conv(share, branch.weight, branch.bias, a["stride"], a["dilation"], a["groups"])
        for share, branch in zip(shares, module.branches, strict=True)
    ]
    merge = o["merge"]
    if merge == "concat":
        return torch.cat(done, 1)
    if merge == "shuffle":
        return shuffled(torch.cat(done, 1), count)
    factors = {"sum": [1.0] * count, "mean": [1 / count] * count}.get(merge, module.weights)
    total = sum(factor * y for factor, y in zip(factors, done, strict=True))
    return total if module.bias is None else total + module.bias.reshape(-1, *(1,) * case.dims)


def groups_after(o: dict[str, Any], groups: int, outputs: int) -> int:
    count = o["branches"]
    if count == 1:
        return groups
    if o["split"] == "whole":
        return groups if o["merge"] in ("sum", "mean", "weighted_sum") else 1
    if o["merge"] in ("sum", "mean", "weighted_sum"):
        return 1
    return kept(groups * count, dealt(outputs, count), outputs) if o["merge"] == "shuffle" else groups * count


class TestSplitTransformMerge(LayerSuite):
    name = "split_transform_merge"
    pays = True
    typical: ClassVar[dict[str, Any]] = {**LayerSuite.typical, "in_channels": 4, "out_channels": 4}
    typical_options: ClassVar[dict[str, Any]] = {"branches": 2, "merge": "weighted_sum", "split": "whole"}
    grid: ClassVar[dict[str, list[Any]]] = {
        "arguments": [{}, {"groups": 2, "stride": (2, 1), "kernel_size": (3, 2)}],
        "branches": [1, 2],
        "merge": MERGES,
        "split": ["share", "whole"],
    }
    oracle = staticmethod(merged)

    @staticmethod
    def change(draw: Any, arguments: dict[str, Any]) -> Any:
        groups, count = arguments["groups"], draw(st.integers(1, 3))
        merge, split = draw(st.sampled_from(MERGES)), draw(st.sampled_from(["share", "whole"]))
        options = {"branches": count, "merge": merge, "split": split}
        inside, outside = (groups * count * draw(st.integers(1, 2)) for _ in range(2))
        return (
            {"in_channels": inside, "out_channels": outside},
            options,
            {"groups": groups_after(options, groups, outside)},
        )

    def test_concatenated_shares_are_one_grouped_convolution(self) -> None:
        layer = layers.SplitTransformMergeConv2d(8, 12, 3, padding=1, branches=4).eval()
        x = torch.randn(2, 8, 6, 6)
        folded = convfold.fold(layer, x)
        assert (type(folded), folded.groups) == (nn.Conv2d, 4)
        same_values(folded(x), layer(x), ceiling=1e-5)

    def test_added_shares_are_one_dense_convolution(self) -> None:
        layer = layers.SplitTransformMergeConv2d(8, 12, 3, padding=1, branches=4, merge="mean").eval()
        folded = convfold.fold(layer, torch.randn(2, 8, 6, 6))
        assert (type(folded), folded.groups) == (nn.Conv2d, 1)

    @pytest.mark.parametrize("conv", ["doconv", ("dbb", "acnet"), "bottleneck", layers.DepthwiseSeparableConv2d])
    @pytest.mark.parametrize("merge", MERGES)
    def test_any_convolution_is_a_branch(self, conv: Any, merge: str) -> None:
        layer = layers.SplitTransformMergeConv2d(8, 12, 3, padding=1, branches=2, merge=merge, conv=conv).double()
        randomise(layer, torch.Generator().manual_seed(0)).eval()
        x = normal(2, 8, 6, 6)
        alone = [branch.fold() for branch in layer.branches]
        done = [nn.functional.pad(s, [1] * 4) for s in x.chunk(2, 1)]
        done = [branch(share) for branch, share in zip(alone, done, strict=True)]
        joined = torch.cat(done, 1)
        factors = {"sum": (1, 1), "mean": (0.5, 0.5)}.get(merge, layer.weights)
        if merge in ("concat", "shuffle"):
            expected = shuffled(joined, 2) if merge == "shuffle" else joined
        else:
            expected = factors[0] * done[0] + factors[1] * done[1] + layer.bias.reshape(-1, 1, 1)
        same_values(layer(x), expected)
        same_values(layer.fold()(x), expected)

    def test_resnext(self) -> None:
        """A bottleneck with groups in the middle is a sum of narrow ones: forms (a) and (c) of the paper's figure."""
        layer = layers.SplitTransformMergeConv2d(
            8, 8, 3, padding=1, bias=False, branches=4, merge="sum", split="whole", conv=narrow, dtype=torch.float64
        )
        reduce, middle, expand = (
            torch.cat([getattr(b, name).weight for b in layer.branches], axis)
            for name, axis in (("reduce", 0), ("conv", 0), ("expand", 1))
        )
        x = normal(2, 8, 6, 6)
        y = nn.functional.conv2d(x, reduce)
        y = nn.functional.conv2d(nn.functional.conv2d(y, middle, padding=1, groups=4), expand)
        same_values(layer(x), y)

    def test_its_errors(self) -> None:
        make = layers.SplitTransformMergeConv2d
        for options, sentence in (
            ({"merge": "product"}, r"merge is unknown: got 'product', expected one of \('concat', 'sum', 'mean'"),
            ({"split": "half"}, r"split is unknown: got 'half', expected one of \('share', 'whole'\)"),
            ({"branches": 0}, "branches is not a positive integer: got 0, expected"),
            (
                {"branches": 3},
                r"branches must divide in_channels and out_channels: got branches=3 with in_channels=8, "
                r"out_channels=12, expected a common divisor. The nearest are 2 and 4",
            ),
            ({"branches": 5, "merge": "sum"}, "branches must divide in_channels: .*nearest are 4 and 8"),
            ({"branches": 5, "split": "whole"}, "branches must divide out_channels: .*nearest are 4 and 6"),
            (
                {"branches": 4, "groups": 4},
                "groups must divide inputs of a branch and outputs of a branch: got groups=4 with inputs of a "
                "branch=2, outputs of a branch=3, expected a common divisor. The nearest is 1",
            ),
        ):
            with pytest.raises(InvalidArgument, match=f"SplitTransformMergeConv2d: {sentence}"):
                make(8, 12, 3, **options)
        make(8, 12, 3, branches=5, merge="sum", split="whole")


def narrow(*arguments: Any, **options: Any) -> nn.Module:
    return layers.BottleneckConv2d(*arguments, **options, mid_channels=2)
