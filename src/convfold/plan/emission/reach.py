"""Which modules the run used up: all that they hold went into it, so that they may go with it."""

from __future__ import annotations

from torch import nn

from convfold.plan.emission.change import Change

__all__ = ["Reach"]


class Reach:
    """What of a model the captured run reached.

    `contributed` are the modules (by identity) in whose calls something was computed that the outputs need.
    """

    def __init__(self, change: Change) -> None:
        modules = dict(change.captured.model.named_modules(remove_duplicate=False))
        self.contributed = {id(modules[c.path]) for c in change.captured.calls if change.inside[c.number]}
        self._consumed = change.constants(change.was)

    def used_up(self, path: str, module: nn.Module) -> bool:
        """Whether the module at `path` contributed, or all the tensors that it holds itself were read elsewhere."""
        if id(module) in self.contributed:
            return True
        held = [name for name, t in (*module._parameters.items(), *module._buffers.items()) if t is not None]
        # Nothing reads how many batches were seen: it goes with the statistics.
        read = [name for name in held if name != "num_batches_tracked" or "running_mean" not in held]
        return all((f"{path}.{name}" if path else name) in self._consumed for name in read)

    def all_used_up(self, path: str, module: nn.Module) -> bool:
        """Whether that is so of all modules at and below `path`: replaced, nothing is lost that was never run."""
        return all(self.used_up(name, inner) for name, inner in module.named_modules(prefix=path))
