"""What the report shows of a kernel adds up to the kernel, for every block."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("sklearn")

from convfold.blocks import Block, names
from convfold.studies.demo.arms import start_network
from convfold.studies.demo.cost import count, latencies
from convfold.studies.demo.kernels import view
from convfold.studies.demo.study import DEFAULT_BLOCKS
from convfold.train import plain_cnn
from convfold.transform import fold


def shaken(block: str) -> torch.nn.Module:
    """A network as after training: every parameter and every statistic moved, so that nothing is zero or one."""
    _, wide = start_network(block, 0, 8)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in wide.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return wide.eval()


@pytest.mark.parametrize("block", DEFAULT_BLOCKS)
def test_the_parts_add_up_to_the_kernel(block: str) -> None:
    wide = shaken(block)
    found = view(wide, fold(wide, torch.zeros(2, 1, 8, 8)))
    assert len(found.parts) >= 3
    assert found.mismatch < 1e-5
    total = torch.zeros(3, 3)
    for part in found.parts:
        values = torch.tensor(part.values)
        top, left = ((3 - size) // 2 for size in values.shape)
        total[top : top + values.shape[0], left : left + values.shape[1]] += values
    assert torch.allclose(total, torch.tensor(found.total), atol=1e-4)
    last = [module for module in wide.modules() if isinstance(module, Block)][-1]
    folded = last.fold().weight[found.channel, found.channel]
    assert torch.allclose(folded, torch.tensor(found.total), atol=1e-4)


@pytest.mark.parametrize("block", DEFAULT_BLOCKS)
def test_a_norm_after_the_block_is_said_to_be_folded_in(block: str) -> None:
    wide = shaken(block)
    found = view(wide, fold(wide, torch.zeros(2, 1, 8, 8)))
    same = torch.allclose(torch.tensor(found.total), torch.tensor(found.folded), rtol=1e-3, atol=1e-5)
    last = [module for module in wide.modules() if isinstance(module, Block)][-1]
    assert found.rescaled == (not same) == (not last.has_norm)


def test_the_parts_are_named_after_what_they_run() -> None:
    wide = shaken("repvgg")
    found = view(wide, fold(wide, torch.zeros(2, 1, 8, 8)))
    assert [part.label for part in found.parts] == ["conv3x3", "conv1x1", "identity"]
    assert [len(part.values) for part in found.parts] == [3, 1, 1]


def test_the_default_blocks_exist() -> None:
    assert set(DEFAULT_BLOCKS) <= set(names())


def test_counts_and_latencies_tell_a_large_network_from_a_small_one() -> None:
    images = torch.zeros(16, 1, 8, 8)
    small, large = plain_cnn(width=8).eval(), plain_cnn(width=64).eval()
    assert count(large, images)["macs"] > 20 * count(small, images)["macs"]
    assert count(small, images[:2])["macs"] * 8 == count(small, images)["macs"]
    assert count(small, images)["params"] == sum(p.numel() for p in small.parameters())
    found, control = latencies({"small": small, "large": large}, "small", images, rounds=5)
    assert set(found) == {"small", "large"}
    assert found["small"].ratio == 1
    assert found["large"].ratio > 2
    assert control.low <= control.ratio <= control.high
    assert control.ratio < found["large"].ratio
