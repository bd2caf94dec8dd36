"""Which models ``bench zoo`` folds, with states in which nothing hides: random statistics, random scales."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from convfold.errors import InvalidArgument
from convfold.zoo import import_torchvision, load_model

__all__ = ["FAMILIES", "OWN", "TwoDBB", "default_models", "example_input", "prepared", "randomise"]

OWN = "convfold.studies.bench.zoo.models:TwoDBB"

# The member of each family with the fewest parameters; both where there are two lines of one family or where
# a published figure is of another member (mobileone_s0, repvit_m1), and the two whose folding is timed.
_TIMM = (
    "repvgg_a0 repvgg_b1 mobileone_s0 mobileone_s1 mobileone_s4 fastvit_t8 repghostnet_050 repvit_m1 repvit_m0_9 "
    "levit_128s levit_conv_128s ghostnet_050 ghostnetv2_100 ghostnetv3_050 shvit_s1 lcnet_035 lcnetv2_small "
    "efficientvit_b0 efficientvit_m0 tiny_vit_5m_224 nextvit_small efficientformer_l1 efficientformerv2_s0 "
    "swiftformer_xs edgenext_xx_small starnet_s050 densenet121 inception_v3 inception_v4 inception_next_atto "
    "xception41 mixnet_s hgnet_tiny hgnetv2_b0 res2net50_14w_8s fasternet_t0 convmixer_768_32 rexnet_100 rexnetr_100 "
    "dla46x_c dla46_c dla60_res2net hrnet_w18_small resnet10t resnet18 mobilenetv1_100 mobilenetv2_035 "
    "mobilenetv3_small_050 mobilenetv4_conv_small_035"
)
_TORCHVISION = ("googlenet", "shufflenet_v2_x0_5")
FAMILIES: tuple[str, ...] = (
    OWN,
    *(f"timm:{name}" for name in _TIMM.split()),
    *(f"torchvision:{name}" for name in _TORCHVISION),
)

_PLAIN = (nn.modules.conv._ConvNd, nn.Linear)
_NORM = nn.modules.batchnorm._BatchNorm
# Inputs that statistics are set by: an input unlike too few of them would be blown up, layer by layer.
_CALIBRATION = 8
# Statistics of fewer values than this say nothing of a channel.
_ENOUGH = 16


class _NaiveDBB(nn.Module):
    """A diverse branch block as its paper draws it: four branches of plain layers, summed, then ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def conv(kernel: int) -> list[nn.Module]:
            layer = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
            return [layer, nn.BatchNorm2d(channels)]

        self.wide = nn.Sequential(*conv(3))
        self.point = nn.Sequential(*conv(1))
        self.chain = nn.Sequential(*conv(1), *conv(3))
        self.pool = nn.Sequential(*conv(1), nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.wide(x) + self.point(x) + self.chain(x) + self.pool(x))


class TwoDBB(nn.Sequential):
    """A strided 3x3 convolution and two diverse branch blocks: 11 convolutions of which 3 are needed."""

    input_size = (3, 56, 56)

    def __init__(self, channels: int = 32) -> None:
        stem = (nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        super().__init__(*stem, _NaiveDBB(channels), _NaiveDBB(channels))


def default_models() -> tuple[str, ...]:
    """The families, then torchvision's classification set."""
    models = import_torchvision().models  # type: ignore[attr-defined]
    listed = (f"torchvision:{name}" for name in models.list_models(module=models))
    return (*FAMILIES, *(name for name in listed if name not in FAMILIES))


def example_input(name: str, model: nn.Module, size: int | None, seed: int) -> Tensor:
    """One random input of the model's own size, or of `size`."""
    config: Any = getattr(model, "default_cfg", None) or {}
    usual = (3, 299, 299) if name == "torchvision:inception_v3" else (3, 224, 224)
    shape = list(getattr(model, "input_size", None) or config.get("input_size") or usual)
    if size is not None:
        shape[1:] = [size, size]
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def prepared(name: str, size: int | None, seed: int) -> tuple[nn.Module, Tensor]:
    """The model of that name in eval mode, nothing of it at its start, and an input for it."""
    torch.manual_seed(seed)
    model = load_model(name).eval()
    x = example_input(name, model, size, seed)
    try:
        randomise(model, x, seed)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidArgument(f"the model does not run ({reason})", where=name, got=list(x.shape)) from error
    return model, x


def randomise(model: nn.Module, x: Tensor, seed: int) -> None:
    """Draw every statistic, scale and shift of `model` anew, in place.

    One run on a few inputs like `x` sets each batch normalisation's statistics by what reaches it (half its
    mean, off by up to a third of its size; its square, by a factor of up to two), so that no activation grows
    or dies. Gammas lie in [0.5, 1.5], a quarter of them negative; layer scales and scalars in [0.3, 1] of
    either sign; a weight, bias or table that starts at zero is normal.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                _draw(module, parameter, generator)
        norms = [m for m in model.modules() if isinstance(m, _NORM) and m.running_mean is not None]
        for norm in norms:
            _fill(norm, torch.zeros(norm.num_features), torch.ones(norm.num_features), generator)
        seen: set[nn.Module] = set()

        def calibrate(module: nn.Module, args: tuple[Any, ...]) -> None:
            if module not in seen:
                seen.add(module)
                _fill(module, *_statistics(args[0]), generator)

        hooks = [norm.register_forward_pre_hook(calibrate) for norm in norms]
        try:
            if norms:
                model(torch.randn(_CALIBRATION, *x.shape[1:], generator=generator))
        finally:
            for hook in hooks:
                hook.remove()


def _uniform(like: Tensor, low: float, high: float, negative: float, generator: torch.Generator) -> Tensor:
    size = torch.empty(like.shape).uniform_(low, high, generator=generator)
    signs = torch.where(torch.rand(like.shape, generator=generator) < negative, -1.0, 1.0)
    return size * signs


def _draw(module: nn.Module, parameter: nn.Parameter, generator: torch.Generator) -> None:
    if isinstance(module, _NORM):
        if parameter is module.weight:
            parameter.copy_(_uniform(parameter, 0.5, 1.5, 0.25, generator))
        else:
            parameter.normal_(0, 0.3, generator=generator)
    elif parameter.squeeze().dim() <= 1 and not isinstance(module, _PLAIN) and bool(parameter.any()):
        parameter.copy_(_uniform(parameter, 0.3, 1.0, 0.5, generator))
    elif not parameter.any():
        parameter.normal_(0, _deviation(module, parameter), generator=generator)


def _deviation(module: nn.Module, parameter: Tensor) -> float:
    """Of what starts at zero: a bias stays small beside its layer, a table tells positions apart."""
    if parameter.dim() <= 1:
        return 0.2
    return max(parameter[0].numel(), 1) ** -0.5 if isinstance(module, _PLAIN) else 1.5


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """A mean and a variance per channel that keep the values' scale and blow up no rounding error.

    Not those of the values: behind an average or attention all positions are nearly alike, so that taking
    their mean away and dividing by what is left would make each layer multiply errors, as no trained one does.
    """
    rows = x.transpose(0, 1).flatten(1)
    if rows.shape[1] < _ENOUGH:
        rows = rows.reshape(1, -1).expand(len(rows), -1)
    square = rows.square().mean(1)
    return rows.mean(1) / 2, torch.maximum(square, square.mean() + 1e-6)


def _fill(norm: Any, mean: Tensor, variance: Tensor, generator: torch.Generator) -> None:
    shift = torch.rand(mean.shape, generator=generator) * 2 / 3 - 1 / 3
    factor = torch.exp2(torch.rand(mean.shape, generator=generator) * 2 - 1)
    norm.running_mean.copy_(mean + shift * variance.sqrt())
    norm.running_var.copy_(variance * factor)
