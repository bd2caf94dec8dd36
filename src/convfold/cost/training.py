"""The cost of one step of training: forward and backward in train mode, loss = sum of the outputs.

Counted on meta tensors like a forward pass, under the same observers. Of a layer that is linear in its input
and in its weight the backward pass costs two forward passes, one for each gradient, and the first layer, whose
input needs none, costs one:

    macs(step) = 3 * macs(forward) - macs(layers on the input)

Batch normalisation uses batch statistics. The optimiser's arithmetic is not counted; what it holds between
steps is `optimizer_bytes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra import hollow, twin
from convfold.cost.counting.counter import OperatorCounter
from convfold.cost.counting.leaves import tensors
from convfold.cost.memory.observer import MemoryObserver
from convfold.errors import InvalidArgument, UnknownName
from convfold.graph.inputs import ExampleInputs, does_not_run, example_inputs

__all__ = ["OPTIMIZERS", "TrainingCost", "optimizer_bytes", "run_step", "training_step"]

# State per byte of a float parameter, and bytes per parameter tensor: torch keeps a float32 step count in each.
OPTIMIZERS: Mapping[str, tuple[int, int]] = {"sgd": (0, 0), "momentum": (1, 0), "adam": (2, 4)}


@dataclass(frozen=True)
class TrainingCost:
    """One step; FLOPs and traffic are those of forward and backward together unless named `forward`.

    `kept_bytes`: what is alive between the two: activations kept for the backward pass, outputs included.
    `peak_bytes`: the most alive at once above weights, buffers and inputs, gradients included.
    `gradient_bytes`: the parameters' gradients, alive when the step ends.
    `real_run`: empty when counted on meta tensors, else why the model had to be run.
    """

    forward_macs: int
    macs: int
    forward_flops: int
    flops: int
    kept_bytes: int
    peak_bytes: int
    forward_traffic_bytes: int
    traffic_bytes: int
    gradient_bytes: int
    optimizer_bytes: Mapping[str, int]
    uncounted: Mapping[str, int]
    real_run: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def optimizer_bytes(model: nn.Module, optimizer: str) -> int:
    """Bytes of state that an optimiser keeps for the parameters of `model` that are trained.

    sgd 0, momentum one tensor per parameter, adam (and AdamW) two and a step count of 4 bytes:

        bytes = tensors * sum bytes(p) + count * number of p

    Raises UnknownName for another optimiser.
    """
    if optimizer not in OPTIMIZERS:
        raise UnknownName(
            "no closed form for this optimiser", got=f"'{optimizer}'", hint=f"Known: {', '.join(OPTIMIZERS)}."
        )
    copies, count = OPTIMIZERS[optimizer]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return sum(copies * parameter.nbytes + count for parameter in trained)


def training_step(model: nn.Module, inputs: object) -> TrainingCost:
    """Count a forward and a backward pass of ``model(inputs)`` in train mode; `model` itself is never touched.

    A model that meta tensors cannot run is run for real, on a copy, and `real_run` says why. Raises
    InvalidArgument when the model does not run on the inputs or no output depends on a trained parameter.
    """
    given = example_inputs(model, inputs)
    try:
        return _counted(
            hollow(model).train(), given.map(lambda t: torch.empty_like(t, device="meta")), model, meta=True
        )
    except InvalidArgument:
        raise
    except Exception as refusal:
        reason = " ".join(str(refusal).split())[:200] or type(refusal).__name__
        try:
            return _counted(
                twin(model).train(), given.map(lambda t: t.detach().clone()), model, meta=False, reason=reason
            )
        except InvalidArgument:
            raise
        except Exception as error:
            raise does_not_run(model, given, error) from error


def _counted(
    copied: nn.Module, given: ExampleInputs, model: nn.Module, *, meta: bool, reason: str = ""
) -> TrainingCost:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    memory = MemoryObserver.on(device)
    counter = OperatorCounter(copied, given, meta=meta, observers=(memory,))
    before: dict[str, int] = {}

    def between() -> None:
        before.update(_work(counter), kept=memory.live_bytes, traffic=memory.traffic_bytes)

    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        run_step(copied, given, counter, between)
    total = _work(counter)
    return TrainingCost(
        forward_macs=before["macs"],
        macs=total["macs"],
        forward_flops=before["flops"],
        flops=total["flops"],
        kept_bytes=before["kept"],
        peak_bytes=memory.peak_bytes,
        forward_traffic_bytes=before["traffic"],
        traffic_bytes=memory.traffic_bytes,
        gradient_bytes=sum(p.grad.nbytes for p in copied.parameters() if p.grad is not None),
        optimizer_bytes={name: optimizer_bytes(model, name) for name in OPTIMIZERS},
        uncounted=dict(counter.uncounted),
        real_run=reason,
    )


def _work(counter: OperatorCounter) -> dict[str, int]:
    tallies = counter.tallies.values()
    return {"macs": sum(t.macs for t in tallies), "flops": sum(t.flops for t in tallies)}


def run_step(model: nn.Module, given: ExampleInputs, counter: Any, between: Callable[[], None] = lambda: None) -> None:
    """Run forward and backward of ``sum(outputs)`` under `counter`, a context; `between` is called between the two.

    `model` is a copy: it gets gradients. Raises InvalidArgument when no output depends on a trained parameter.
    """
    for parameter in model.parameters():
        parameter.grad = None
    with torch.enable_grad(), counter:
        results = [tensor for tensor in tensors(given.call(model)) if tensor.requires_grad]
        if not results:
            raise InvalidArgument(
                "no output depends on a parameter that is trained",
                where=type(model).__name__,
                hint="Parameters whose requires_grad is False are not trained.",
            )
        between()
        loss: Tensor = sum((tensor.sum() for tensor in results[1:]), results[0].sum())
        del results
        loss.backward()  # type: ignore[no-untyped-call]
