"""The plain network, its arms, and bicubic: one function before training, one architecture after folding."""

import pytest
import torch
from torch import nn

from convfold import fold
from convfold.errors import InvalidArgument, UnknownName
from convfold.train.sr import Bicubic, SrNetwork, sr_arm, sr_network
from sr.photographs import picture
from support.make import randomise

ARMS = ["doconv", "ecb", "acnet", "expandnet", "dbb", "repvgg", "mobileone", "orepa"]


@pytest.mark.parametrize(("scale", "channels"), [(1, 1), (2, 1), (3, 1), (2, 3)])
def test_the_network_is_its_equation(scale: int, channels: int) -> None:
    network = sr_network(scale, channels, width=5, depth=3).double()
    x = torch.rand(2, channels, 6, 7, dtype=torch.float64)
    y = x - 0.5
    for layer in network.body:
        y = layer(y)
    expected = torch.empty(2, channels, scale * 6, scale * 7, dtype=torch.float64)
    for c in range(channels):
        for i in range(scale):
            for j in range(scale):
                expected[:, c, i::scale, j::scale] = y[:, c * scale**2 + i * scale + j] + x[:, c]
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-15)
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 3


def test_reach_is_how_far_a_pixel_is_seen() -> None:
    network = sr_network(2, 1, width=4, depth=4)
    assert isinstance(network, SrNetwork)
    x = torch.rand(1, 1, 15, 15, requires_grad=True)
    network(x)[0, 0, 14, 14].backward()
    seen = x.grad[0, 0].nonzero()
    assert (seen.min(0).values.tolist(), seen.max(0).values.tolist()) == (
        [7 - network.reach] * 2,
        [7 + network.reach] * 2,
    )


@pytest.mark.parametrize("arm", ARMS)
def test_arms_start_as_the_plain_network_and_fold_to_its_architecture(arm: str) -> None:
    plain = sr_network(2, 1, width=6, depth=3).double()
    wide = sr_arm(plain, arm).train()
    x = torch.rand(2, 1, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(wide(x), plain(x), rtol=0, atol=1e-13)
    randomise(wide, torch.Generator().manual_seed(0))
    wide.eval()
    folded = fold(wide)
    assert {n: t.shape for n, t in folded.state_dict().items()} == {n: t.shape for n, t in plain.state_dict().items()}
    assert [type(m) for m in folded.modules()] == [type(m) for m in plain.modules()]
    expected = wide(x).detach()
    assert float((folded(x).detach() - expected).abs().max() / expected.abs().max()) < 1e-12
    assert (expected - plain(x)).abs().max() > 1e-3
    assert sr_arm(plain, "plain") is plain


def test_what_is_no_arm() -> None:
    plain = sr_network(width=4)
    with pytest.raises(UnknownName, match="Did you mean doconv"):
        sr_arm(plain, "doconf")
    with pytest.raises(InvalidArgument, match=r"no layer can become mixconv: .* it cannot start from a given kernel"):
        sr_arm(plain, "mixconv")
    for name, value, least in (
        ("scale", 0, 1),
        ("channels", 0, 1),
        ("width", 0, 1),
        ("depth", 1, 2),
        ("width", 1.5, 1),
    ):
        message = f"{name}: there is no such network: got {value}, expected an integer of at least {least}"
        with pytest.raises(InvalidArgument, match=message):
            sr_network(**{name: value})


@pytest.mark.parametrize("scale", [2, 3])
def test_bicubic_is_pillows(scale: int) -> None:
    from PIL import Image

    small = picture("b", 11, 13).tensor
    image = Image.fromarray(small[0].numpy()).resize((13 * scale, 11 * scale), Image.Resampling.BICUBIC)
    found = Bicubic(scale)(small[None]).flatten()
    torch.testing.assert_close(found, torch.tensor(image.get_flattened_data()), rtol=0, atol=1e-5)
    assert torch.equal(Bicubic(1)(small), small)
