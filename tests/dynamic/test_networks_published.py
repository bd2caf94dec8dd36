"""Counts at paper size: parents are torchvision's, networks are the papers', as far as docs/dynamic-networks.md says.

Every published number stands in docs/dynamic-networks.toml with its source, and with how far from it ours may be.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convfold
from convfold.dynamic import DynamicLayer, networks
from convfold.zoo import import_torchvision
from support.scripts import script

DOCS = Path(__file__).parents[2] / "docs"
LIST = tomllib.loads((DOCS / "dynamic-networks.toml").read_text())
ENTRIES = {entry["title"]: entry for entry in LIST["network"]}

PAGE = script("make_dynamic_networks")


def on_meta(build: Any, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return build(**options).eval()


@pytest.mark.parametrize(
    ("build", "options", "theirs"),
    [
        (networks.mobilenet_v2, {}, "mobilenet_v2"),
        (networks.mobilenet_v3, {}, "mobilenet_v3_small"),
        (networks.mobilenet_v3, {"blocks": networks.V3_LARGE, "head_channels": 1280}, "mobilenet_v3_large"),
        (networks.resnet18, {}, "resnet18"),
        (networks.resnet50, {}, "resnet50"),
        (networks.shufflenet_v2, {}, "shufflenet_v2_x1_0"),
    ],
)
def test_a_static_parent_is_torchvisions(build, options, theirs):
    x = torch.empty(1, 3, 224, 224, device="meta")
    own, other = on_meta(build, **options), on_meta(getattr(import_torchvision().models, theirs))
    mine, reference = convfold.cost(own, x), convfold.cost(other, x)
    assert (mine.macs, mine.params) == (reference.macs, reference.params)
    assert not mine.uncounted
    # Flat: torchvision's gates are 1x1 convolutions, ours fully connected.
    shapes = [sorted(p.flatten(1).shape for p in net.parameters() if p.dim() > 1) for net in (own, other)]
    assert shapes[0] == shapes[1]


def test_the_static_resnet_computes_what_torchvisions_does():
    """Not only the counts: the same weights give the same logits."""
    own, other = networks.resnet18().eval(), import_torchvision().models.resnet18().eval()
    with torch.no_grad():
        own.load_state_dict(dict(zip(own.state_dict(), _as_ours(other), strict=True)))
        x = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(own(x), other(x), rtol=1e-4, atol=1e-4)


def _as_ours(resnet: nn.Module) -> list[torch.Tensor]:
    """torchvision's tensors in our order: a chain's convolutions come before its normalisations."""
    found = [*resnet.conv1.state_dict().values(), *resnet.bn1.state_dict().values()]
    for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        for block in stage:
            parts = [block.conv1, block.conv2, block.bn1, block.bn2]
            parts += [] if block.downsample is None else [*block.downsample]
            found += [tensor for part in parts for tensor in part.state_dict().values()]
    return [*found, *resnet.fc.state_dict().values()]


CHECKS = [(title, item) for title, entry in ENTRIES.items() for item in entry["published"]]


@pytest.mark.parametrize(("title", "item"), CHECKS, ids=[f"{title}: {item['quantity']}" for title, item in CHECKS])
def test_a_published_number(title, item):
    here = PAGE.counted(ENTRIES[title]).of(item["quantity"])
    assert item["source"] in LIST["sources"]
    assert abs(here / item["value"] - 1) <= item["within"]
    assert item["within"] <= 0.05 or "why" in ENTRIES[title] or title.startswith("DynamicConv-MobileNetV2")


def test_mixing_and_routing_are_counted_and_nothing_else():
    """MACs above the static network: K times each kernel that is mixed, and the routers' matrices."""
    x = torch.empty(1, 3, 224, 224, device="meta")
    for build, kind in ((networks.resnet18, "dynamicconv"), (networks.mobilenet_v2, "condconv")):
        net = on_meta(build, kind=kind)
        routers = [m for name, m in net.named_modules() if "router" in name and isinstance(m, nn.Linear)]
        routing = sum(m.weight.numel() for m in routers)
        kernels = [m.weight.numel() for m in net.modules() if isinstance(m, DynamicLayer)]
        biases = [m.bias.numel() for m in net.modules() if isinstance(m, DynamicLayer) and m.bias is not None]
        more = convfold.cost(net, x).macs - convfold.cost(on_meta(build), x).macs
        assert more == sum(kernels) + sum(biases) + routing


def test_what_the_page_says_of_differences_is_so():
    def elements(build: Any, *, classifier: bool) -> int:
        net = on_meta(build)
        found = [m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d)]
        return sum(found[0 if classifier else 1 :]) + classifier * sum(
            m.weight.numel() for m in net.modules() if isinstance(m, nn.Linear)
        )

    why = {title: entry.get("why", "") for title, entry in ENTRIES.items()}
    every = elements(networks.mobilenet_v2, classifier=True)
    said = why["CondConv-MobileNetV2, 8 experts"]
    assert f"{every / 1e6:.2f} M" in said
    assert f"{8 * every / 1e6:.1f} M" in said
    net = on_meta(networks.dynamicconv_mobilenet_v2)
    attention = sum(p.numel() for name, p in net.named_parameters() if "router" in name)
    rest = sum(p.numel() for p in net.parameters()) - attention
    said = why["DynamicConv-MobileNetV2 1.0"]
    assert f"are {rest / 1e6:.1f} M" in said
    assert f"adds {attention / 1e6:.1f} M" in said
    assert 11.1e6 - rest < attention / 2
    every = elements(networks.resnet18, classifier=False)
    said = why["DynamicConv-ResNet-18"]
    assert f"{every / 1e6:.2f} M" in said
    assert f"{4 * every / 1e6:.1f} M" in said


def test_the_page_is_what_would_be_written_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "dynamic-networks.toml").write_bytes((DOCS / "dynamic-networks.toml").read_bytes())
    monkeypatch.setattr(PAGE, "HERE", tmp_path)
    PAGE.main()
    written = (tmp_path / "dynamic-networks.md").read_text()
    assert written == (DOCS / "dynamic-networks.md").read_text(), "run python docs/make_dynamic_networks.py"


def test_the_first_example_runs():
    code = re.search(r"\n\n((?:    .*\n|\n)+?)\n\| kind", (DOCS / "dynamic-networks.md").read_text())
    assert code is not None
    names: dict[str, Any] = {}
    with torch.device("meta"):
        exec(re.sub(r"^    ", "", code.group(1), flags=re.MULTILINE), names)
        assert names["model"](torch.empty(2, 3, 224, 224)).shape == (2, 1000)
        assert names["small"](torch.empty(2, 1, 8, 8)).shape == (2, 10)


def test_the_page_names_every_kind():
    page = (DOCS / "dynamic-networks.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [*networks.KINDS]
