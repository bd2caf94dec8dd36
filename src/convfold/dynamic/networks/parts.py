"""What the reference networks share: a chain of routed convolutions, and the frame around the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from convfold.dynamic.networks.kinds import Kind, routed

__all__ = ["Chain", "Network", "divisible", "stem"]

Activation = Callable[[], nn.Module]


def divisible(channels: float, by: int = 8) -> int:
    """The nearest multiple, at least one, and never less than nine tenths (MobileNetV2's rule)."""
    near = max(by, int(channels + by / 2) // by * by)
    return near + by if near < 0.9 * channels else near


def stem(inputs: int, outputs: int, size: int, stride: int, act: nn.Module, eps: float = 1e-5) -> nn.Sequential:
    """The first convolution: static in every kind."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps), act)


class Chain(nn.Module):
    """Convolutions of one block, each with its normalisation and activation, under one router where they share one.

    `layers` are (out_channels, kernel_size, stride, groups, activation or None). An `inner_gate` stands before the last
    convolution, as MobileNetV3 has it; the gate of kind "se" at the end, unless ``end_gate=False``. `squeeze` goes to
    `Kind.router`, `eps` to the normalisations.
    """

    def __init__(
        self,
        kind: Kind,
        inputs: int,
        layers: Sequence[tuple[int, int, int, int, Activation | None]],
        *,
        inner_gate: nn.Module | None = None,
        end_gate: bool = True,
        squeeze: int = 0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        widths = [layer[0] for layer in layers]
        self.router = kind.router(inputs, widths, squeeze)
        convs, norms, acts = [], [], []
        for before, (outputs, size, stride, groups, act) in zip([inputs, *widths], layers, strict=False):
            convs.append(kind.conv(before, outputs, size, stride, groups))
            norms.append(nn.BatchNorm2d(outputs, eps))
            acts.append(nn.Identity() if act is None else act())
        self.convs, self.norms, self.acts = nn.ModuleList(convs), nn.ModuleList(norms), nn.ModuleList(acts)
        self.inner_gate = inner_gate
        self.gate = kind.gate(widths[-1]) if end_gate else None

    def forward(self, x: Tensor) -> Tensor:
        routing = [None] * len(self.convs) if self.router is None else self.router(x)
        for place, (conv, norm, act) in enumerate(zip(self.convs, self.norms, self.acts, strict=True)):
            if self.inner_gate is not None and place == len(self.convs) - 1:
                x = self.inner_gate(x)
            x = act(norm(routed(conv, x, routing[place])))
        return x if self.gate is None else self.gate(x)


class Network(nn.Module):
    """``classifier(GAP(head(blocks(stem(x)))))``: images (N, C, H, W) to logits (N, classes)."""

    def __init__(self, stem: nn.Module, blocks: Iterable[nn.Module], head: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = stem, nn.Sequential(*blocks), head
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.blocks(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]
