"""``convfold train``: images in, a folded network out; and ``convfold train sr`` beside it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from convfold.cli.train_sr import train_sr
from convfold.studies.train_images import Options, train_images
from convfold.train import Settings

__all__ = ["TrainCommand", "train"]

_sr = typer.Typer(add_completion=False)
_sr.command("sr")(train_sr)


class TrainCommand(TyperCommand):
    """``train DATA``; and ``train sr``, a command of its own: a folder of that name is ./sr."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the one that is meant."""
        if args[:1] == ["sr"]:
            command = typer.main.get_command(_sr)
            return command.make_context(f"{info_name} sr", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


class Optimiser(StrEnum):
    """What updates the weights."""

    SGD = "sgd"
    ADAMW = "adamw"


class Precision(StrEnum):
    """What the network computes in while it trains; weights are kept in fp32."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Augment(StrEnum):
    """What is done to images at random."""

    AUTO = "auto"
    NONE = "none"
    SHIFT = "shift"
    CROP = "crop"


class KernelMode(StrEnum):
    """How blocks without batch normalisation inside are run while they train."""

    AUTO = "auto"
    FEATURE = "feature"
    KERNEL = "kernel"


class BadPictures(StrEnum):
    """What is done about pictures that cannot be read."""

    FAIL = "fail"
    SKIP = "skip"


_NETWORK, _STEPS, _IMAGES, _MACHINES = "The network", "How it is trained", "The images", "Where it runs"


def _option(group: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=group, **more)


def train(
    data: Annotated[str, typer.Argument(metavar="DATA", help="digits, or a folder: class/name.png.")],
    model: Annotated[
        str, _option(_NETWORK, help="timm:NAME, torchvision:NAME or package.module:factory, called with num_classes=.")
    ],
    epochs: Annotated[int, _option(_STEPS, help="How often each image is seen.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints, logs and the networks.")],
    seed: Annotated[int, typer.Option(help="Decides weights, order and augmentation.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    expand: Annotated[
        str | None, _option(_NETWORK, metavar="BLOCK", help="Expand by this block, as dbb, or a recipe.toml.")
    ] = None,
    weights: Annotated[
        Path | None, _option(_NETWORK, help="A .safetensors file of the plain model to start from.")
    ] = None,
    new_head: Annotated[
        bool, _option(_NETWORK, "--new-head", help="Let tensors of another shape in --weights keep their own start.")
    ] = False,
    kernel_mode: Annotated[
        KernelMode, _option(_NETWORK, help="How blocks without BN inside train; auto: by fewer MACs.")
    ] = KernelMode.AUTO,
    batch_size: Annotated[int, _option(_STEPS, help="Images per step, over all processes.")] = 64,
    accumulate: Annotated[int, _option(_STEPS, help="Parts that a step is computed in, one after another.")] = 1,
    optimiser: Annotated[
        Optimiser, _option(_STEPS, "--optimiser", "--optimizer", help="SGD has momentum 0.9.")
    ] = Optimiser.SGD,
    learning_rate: Annotated[
        float | None,
        _option(_STEPS, "--learning-rate", "--lr", help="At its highest.", show_default="0.05; adamw 0.001"),
    ] = None,
    weight_decay: Annotated[
        float | None, _option(_STEPS, help="On kernels alone.", show_default="0.0001; adamw 0.05")
    ] = None,
    warmup_epochs: Annotated[float, _option(_STEPS, help="The rate rises over these, then falls as a cosine.")] = 1.0,
    label_smoothing: Annotated[float, _option(_STEPS, help="Share of each label given to all classes.")] = 0.0,
    ema: Annotated[float, _option(_STEPS, help="Ship a running average of weights with this decay; 0: none.")] = 0.0,
    precision: Annotated[Precision, _option(_STEPS, help="Mixed precision; fp16 on a GPU alone.")] = Precision.FP32,
    channels_last: Annotated[bool, _option(_STEPS, "--channels-last", help="Lay images out channels last.")] = False,
    size: Annotated[
        int | None, _option(_IMAGES, help="Height and width.", show_default="the pictures' or the model's")
    ] = None,
    channels: Annotated[int | None, _option(_IMAGES, help="1 or 3.", show_default="as the pictures are")] = None,
    augment: Annotated[
        Augment, _option(_IMAGES, help="auto: none for digits, else crop, or shift where all are of one size.")
    ] = Augment.AUTO,
    flip: Annotated[
        bool | None, _option(_IMAGES, "--flip/--no-flip", help="Mirror half.", show_default="with crop and shift")
    ] = None,
    test_fraction: Annotated[
        float | None,
        _option(_IMAGES, help="Held out where there is no val/ or test/.", show_default="0.2; digits 0.5"),
    ] = None,
    split_seed: Annotated[int, _option(_IMAGES, help="Decides what is held out.")] = 0,
    bad_pictures: Annotated[
        BadPictures, _option(_IMAGES, help="Pictures that cannot be read: fail, naming them, or skip them.")
    ] = BadPictures.FAIL,
    workers: Annotated[int, _option(_MACHINES, min=0, help="Processes that read pictures, for each that trains.")] = 0,
    device: Annotated[
        str | None, _option(_MACHINES, help="cpu or cuda.", show_default="a GPU where there is one")
    ] = None,
    world_size: Annotated[
        int | None, _option(_MACHINES, help="Fail unless torchrun started this many processes.", show_default=False)
    ] = None,
    tensorboard: Annotated[
        bool, _option(_MACHINES, "--tensorboard/--no-tensorboard", help="Log for it, where it is installed.")
    ] = True,
) -> int:
    """Train a network on images, fold it, verify the fold, test it again, and write .safetensors and .onnx.

    Killed at any moment, the same command with --resume goes on to the same weights.

    On several GPUs or machines: torchrun --nproc-per-node 8 -m convfold train ... (docs/train.md).

    `convfold train sr` trains super-resolution: `convfold train sr --help`.
    """
    settings = Settings(
        data=data,
        model=model,
        epochs=epochs,
        seed=seed,
        expand=expand,
        weights=None if weights is None else str(weights),
        new_head=new_head,
        batch_size=batch_size,
        accumulate=accumulate,
        optimiser=optimiser.value,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_epochs=warmup_epochs,
        label_smoothing=label_smoothing,
        ema=ema,
        precision=precision.value,
        channels_last=channels_last,
        kernel_mode=kernel_mode.value,
        augment=augment.value,
        flip=flip,
        size=size,
        channels=channels,
        test_fraction=test_fraction,
        split_seed=split_seed,
        bad_pictures=bad_pictures.value,
    )
    outcome = train_images(settings, Options(out, resume, world_size, device, workers, tensorboard), Console())
    return 0 if outcome is None or outcome.equal else 1
