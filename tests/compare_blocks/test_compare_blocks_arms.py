"""Which blocks are compared and which are not, and where each arm starts: facts, not lists."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

pytest.importorskip("sklearn")

import convfold
from convfold import blocks
from convfold.errors import ConvfoldError, InvalidArgument, UnknownName
from convfold.studies.compare.blocks.arms import BLOCKS, LEFT_OUT, STARTS_AS_PLAIN, SUMS, Arm, arms_of, checked_blocks
from convfold.studies.compare.blocks.run import make_task
from convfold.studies.compare.blocks.start import deviations, layer_ends, started
from convfold.studies.compare.blocks.tasks import SETTINGS, deep_cnn
from convfold.train import plain_cnn
from convfold.verify import verify

IMAGES = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def plain() -> nn.Module:
    return plain_cnn(10, 4)


def bare() -> nn.Module:
    return deep_cnn(4, 4)


def start(arm: Arm, seed: int = 3, bn: bool = True) -> nn.Module:
    return started(arm, plain if bn else bare, IMAGES, seed)


def shapes(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(type(m).__name__, tuple(p.shape)) for m in model.modules() for p in m.parameters(recurse=False)]


def test_every_block_is_compared_or_left_out_with_a_reason() -> None:
    assert sorted([*BLOCKS, *LEFT_OUT]) == blocks.names()
    assert all(LEFT_OUT.values())


@pytest.mark.parametrize("block", BLOCKS)
def test_what_is_compared_deploys_plains_architecture(block: str) -> None:
    reference = convfold.fold(start(Arm("plain", "", "plain")).eval(), IMAGES[:2])
    folded = convfold.fold(start(Arm("x", "", "own", block)).eval(), IMAGES[:2])
    assert shapes(folded) == shapes(reference)


@pytest.mark.parametrize("block", LEFT_OUT)
def test_what_is_left_out_does_not(block: str) -> None:
    network = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    x = torch.randn(2, 8, 8, 8)
    try:
        wide = convfold.expand(network, block, example_inputs=x, exact=False)
    except ConvfoldError:
        return
    if block == "mixconv":  # at 3x3 it has one part: nothing to compare
        assert all(len(m.parts) == 1 for m in wide.modules() if isinstance(m, blocks.MixConv2d))
        return
    assert shapes(convfold.fold(wide.eval(), x)) != shapes(network)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("bn", [True, False])
def test_an_equal_start_is_equal(block: str, bn: bool) -> None:
    (wanted,) = [a for a in arms_of("digits" if bn else "deep", [block]).values() if a.start == "equal"]
    (reference,) = [a for a in arms_of("digits" if bn else "deep", [block]).values() if a.name == wanted.reference]
    first, second = start(reference, bn=bn), start(wanted, bn=bn)
    assert verify(first.eval(), second.eval(), IMAGES).equal
    if bn and block != "qarepvgg":  # exact in eval mode alone
        with torch.no_grad():
            a, b = first.double().train()(IMAGES.double()), second.double().train()(IMAGES.double())
        # Weights were made in float32, the chain's in sums of them.
        assert float((a - b).abs().max()) <= 64 * torch.finfo(torch.float32).eps * float(a.abs().max())


@pytest.mark.parametrize("block", BLOCKS)
def test_only_sums_start_at_another_scale_behind_a_batch_norm(block: str) -> None:
    """The deviation of BN's output is |gamma| up to its epsilon, so 1; a sum of n independent branches has sqrt(n)."""
    own = start(Arm("x", "", "own", block))
    seen = deviations(own, layer_ends(plain()), IMAGES)
    away = [abs(math.log(value)) for value in seen.values()]
    if block in SUMS:
        assert min(away) > math.log(1.2)
    else:
        assert max(away) < 0.02


@pytest.mark.parametrize("block", [b for b in BLOCKS if b not in STARTS_AS_PLAIN])
@pytest.mark.parametrize("bn", [True, False])
def test_the_control_has_the_scale_of_the_block_and_the_directions_of_plain(block: str, bn: bool) -> None:
    own, control = start(Arm("x", "", "own", block), bn=bn), start(Arm("x", "", "scale", block), bn=bn)
    ends = layer_ends(plain() if bn else bare())
    wanted, found = deviations(own, ends, IMAGES), deviations(control, ends, IMAGES)
    assert list(wanted) == list(found)
    for path, value in wanted.items():
        assert found[path] == pytest.approx(value, rel=1e-3), path
    untouched = start(Arm("x", "", "plain"), bn=bn)
    for path in ends:
        a, b = (net.get_submodule(path).weight.detach().flatten() for net in (control, untouched))
        assert float(nn.functional.cosine_similarity(a, b, dim=0)) == pytest.approx(1, abs=1e-5)


def test_psconv_inside_its_window_holds_taps_at_zero() -> None:
    found = convfold.kernel(blocks.PSConv2d(8, 8, 3, padding=1, variant="shape"))[0]
    assert found.shape == (8, 8, 3, 3)
    assert 0 < int((found == 0).sum()) < found.numel()


def test_do_conv_starts_as_plain_does() -> None:
    torch.manual_seed(0)
    draws = [convfold.kernel(blocks.DOConv2d(16, 32, 3))[0].detach() for _ in range(8)]
    given = [nn.Conv2d(16, 32, 3).weight.detach() for _ in range(8)]
    a, b = torch.stack(draws), torch.stack(given)
    assert float(a.abs().max()) == pytest.approx(float(b.abs().max()), rel=1e-3)
    assert float(a.std()) == pytest.approx(float(b.std()), rel=0.02)


def test_hes_variance_and_diracs_identity() -> None:
    wide = lambda: deep_cnn(24, 4)  # noqa: E731
    nets = {kind: started(Arm("x", "", kind), wide, IMAGES, 1) for kind in ("plain", "he", "dirac")}
    kernels = {kind: net[4].weight.detach() for kind, net in nets.items()}  # type: ignore[index]
    fan_in = kernels["he"][0].numel()
    assert float(kernels["he"].var()) * fan_in == pytest.approx(2, rel=0.05)
    assert not bool(nets["he"][4].bias.any())  # type: ignore[index]
    strided = kernels["dirac"] - kernels["plain"]
    assert not bool(strided.any())  # 24 -> 48 channels with a stride: no identity there
    added = nets["dirac"][2].weight - nets["plain"][2].weight  # type: ignore[index]
    expected = torch.zeros(24, 24, 3, 3)
    expected[range(24), range(24), 1, 1] = 1
    assert torch.allclose(added, expected, atol=1e-6)


@pytest.mark.parametrize("task", [name for name in SETTINGS if name != "sr"])
def test_all_arms_of_a_seed_have_plains_draws_in_common(task: str) -> None:
    of = make_task(task, SETTINGS[task])
    heads = []
    for arm in arms_of(task, ["acnet"]).values():
        network = started(arm, lambda: of.plain(4), of.images(5), 5)
        heads.append(network[-1].weight)  # type: ignore[index]
    assert all(torch.equal(head, heads[0]) for head in heads)


def test_arms_refer_to_arms() -> None:
    for task in SETTINGS:
        arms = arms_of(task, BLOCKS)
        assert next(iter(arms)) == "plain"
        for arm in arms.values():
            assert arm.reference in arms
            assert set(arm.controls) <= set(arms)
            assert not arm.is_block or arm.controls
        assert {arm.block for arm in arms.values() if arm.start == "equal"} == set(BLOCKS)
    assert not any(arm.name == "doconv-own" for task in SETTINGS for arm in arms_of(task, BLOCKS).values())


def test_names_that_cannot_be_compared_are_sentences() -> None:
    with pytest.raises(UnknownName, match=r"--blocks: unknown block: got 'dobconv'.*Did you mean doconv"):
        checked_blocks(["dobconv"])
    with pytest.raises(InvalidArgument, match=r"not compared with plain: got psconv: it folds to 9×9"):
        checked_blocks(["psconv"])
    with pytest.raises(InvalidArgument, match="there is no block to compare"):
        checked_blocks([])
    assert checked_blocks(["dbb", "acnet", "dbb"]) == ["dbb", "acnet"]
