"""The network of a training: built by name for the data at hand, filled, expanded, and proved to be the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from convfold.algebra import twin
from convfold.blocks import Block
from convfold.cost import cost, counted
from convfold.errors import InvalidArgument, InvalidType, NotEqual
from convfold.train.augment import View
from convfold.train.images import Images
from convfold.train.settings import Settings
from convfold.transform import expand
from convfold.verify import verify
from convfold.verify.certificate import Certificate
from convfold.zoo import is_program, known_size, load_model, load_weights, normalisation

__all__ = ["Built", "build", "choose_modes", "totals"]

_EXAMPLES = 2


@dataclass
class Built:
    """A network to train, how images are shown to it, and what is to be said of both.

    `plain_cost` holds MACs, parameters and convolutions of the model as it was named, `modes` how its blocks run that
    can train in either mode, `start` what the expansion was verified by, None without one.
    """

    model: nn.Module
    view: View
    plain_cost: dict[str, int]
    modes: dict[str, str] = field(default_factory=dict)
    start: Certificate | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def example(self) -> Tensor:
        """Two images of the right shape, drawn from one seed."""
        return torch.randn((_EXAMPLES, *self.view.shape), generator=torch.Generator().manual_seed(0))


def build(settings: Settings, images: Images, processes: int = 1) -> Built:
    """Build, fill and expand the network; on the CPU, in training mode. `settings.seed` decides what is drawn.

    Raises what `convfold.zoo.load_model`, `load_weights` and `expand` raise; InvalidArgument for a factory that takes
    no ``num_classes``, and for a model that does not give one score per class; InvalidType for one that gives more in
    training; NotEqual when the expanded network does not compute what the plain one does.
    """
    notes: list[str] = []
    repeat = settings.model.startswith("torchvision:") and images.channels == 1
    channels = 3 if repeat else images.channels
    model = _load(settings, len(images.classes), channels, None)
    known = known_size(settings.model, model)
    size = _size(settings, images, None if known is None else known[1:])
    if known is not None and size != known[1:] and _one_size(model):
        model = _load(settings, len(images.classes), channels, size)
    if repeat:
        notes.append("grey images are shown to torchvision's model on three equal channels")
    view = _view(settings, images, normalisation(model), size, repeat)
    if settings.weights is not None:
        kept = load_weights(model, settings.weights, new_shapes=settings.new_head)
        if kept:
            notes.append(f"{len(kept)} tensors keep their own start, being of another shape: {', '.join(kept[:4])}")
    built = Built(model.train(), view, {}, notes=notes)
    example = built.example
    _check_scores(model, example, len(images.classes))
    built.plain_cost = totals(model, example[:1])
    if settings.expand is not None:
        block: Any = Path(settings.expand) if settings.expand.endswith(".toml") else settings.expand
        built.model = expand(model, block, example_inputs=example)
        built.start = verify(model, built.model, example)
        if not built.start:
            raise NotEqual(
                "the expanded model does not compute what the plain one does",
                where=settings.model,
                got=f"an error of {built.start.error:.1e}",
                expected=f"at most {built.start.bound:.1e}",
            )
    # What one process computes at once.
    share = settings.batch_size // (settings.accumulate * processes)
    built.modes = choose_modes(built.model, settings.kernel_mode, torch.zeros((max(share, 1), *view.shape)))
    return built


def totals(model: nn.Module, images: Tensor) -> dict[str, int]:
    """MACs, parameters, convolutions and bytes of weights of one forward pass."""
    report = cost(model, images)
    return {name: getattr(report, name) for name in ("macs", "params", "convolutions", "weight_bytes")}


def _load(settings: Settings, classes: int, channels: int, size: tuple[int, int] | None) -> nn.Module:
    if is_program(settings.model):
        raise InvalidArgument(
            "an exported program cannot be trained",
            where=settings.model,
            expected="timm:NAME, torchvision:NAME or package.module:factory",
        )
    options: dict[str, Any] = {"num_classes": classes}
    if settings.model.startswith("timm:"):
        options["in_chans"] = channels
    if size is not None:
        options["img_size"] = size
    torch.manual_seed(settings.seed)
    try:
        return load_model(settings.model, **options)
    except TypeError as error:
        if "num_classes" not in str(error):
            raise
        raise InvalidArgument(
            "the factory does not take the number of classes",
            where=settings.model,
            got=str(error),
            expected="a parameter num_classes=",
        ) from error


def _one_size(model: nn.Module) -> bool:
    return bool((getattr(model, "pretrained_cfg", None) or {}).get("fixed_input_size"))


def _size(settings: Settings, images: Images, known: tuple[int, ...] | None) -> tuple[int, int]:
    if settings.size is not None:
        return settings.size, settings.size
    own = images.size
    if own is not None and (known is None or not images.photographs or max(own) <= max(known)):
        return own
    if known is not None:
        return known[0], known[1]
    raise InvalidArgument(
        "the pictures are of many sizes, and the model's own is not known",
        where="--size",
        expected="the height and width that pictures are to have, as 64",
    )


def _view(
    settings: Settings,
    images: Images,
    own: tuple[tuple[float, ...], tuple[float, ...]],
    size: tuple[int, int],
    repeat: bool,
) -> View:
    augment = settings.augment
    if augment == "auto":
        augment = "none" if not images.photographs else "crop" if images.size is None else "shift"
    flip = augment != "none" if settings.flip is None else settings.flip
    return View(size, images.white, *images.scaling(own), augment=augment, flip=flip, repeat=repeat)


def _check_scores(model: nn.Module, example: Tensor, classes: int) -> None:
    where = type(model).__name__
    # Of copies: in training a pass leaves its mark on batch statistics.
    try:
        with torch.no_grad():
            scores, more = (twin(model).train(mode)(example) for mode in (False, True))
    except Exception as error:  # a model raises anything on a shape that it was not made for
        raise InvalidArgument(
            f"the model does not run on these images ({' '.join(str(error).split())[:200]})",
            where=where,
            got="x".join(map(str, example.shape[1:])),
            hint="--size and --channels give images another shape.",
        ) from error
    got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    if got != (len(example), classes):
        raise InvalidArgument(
            "the model does not give one score per class",
            where=where,
            got=f"{got} for {len(example)} images",
            expected=f"{(len(example), classes)}",
        )
    if not isinstance(more, Tensor):
        raise InvalidType(
            "in training the model gives more than scores",
            where=where,
            got=type(more).__name__,
            expected="one tensor (N, classes)",
            hint="Name a factory of your own that builds it without auxiliary heads.",
        )


def choose_modes(model: nn.Module, wanted: str, images: Tensor) -> dict[str, str]:
    """Set the mode of each block that can train in both, in place, and return it by path.

    Those are the blocks without batch normalisation inside. "auto" takes the mode that executes fewer
    multiply-accumulates on a batch like `images`, as convfold.cost counts them, and kernel mode where both are equal.
    """
    paths = [path for path, module in model.named_modules() if isinstance(module, Block) and not _normalises(module)]
    outer = [path for path in paths if not any(path.startswith(f"{other}.") for other in paths if other != path)]
    if not outer:
        return {}
    blocks = {path: model.get_submodule(path) for path in outer}

    def macs(mode: str) -> dict[str, int]:
        for block in blocks.values():
            block.mode = mode  # type: ignore[assignment]
        report = counted(model, images)
        return {path: report.under(path).macs for path in outer}

    chosen = dict.fromkeys(outer, wanted)
    if wanted == "auto":
        feature, kernel = macs("feature"), macs("kernel")
        chosen = {path: "kernel" if kernel[path] <= feature[path] else "feature" for path in outer}
    for path, mode in chosen.items():
        blocks[path].mode = mode  # type: ignore[assignment]
    return chosen


def _normalises(module: nn.Module) -> bool:
    return any(isinstance(inner, _BatchNorm) for inner in module.modules())
