"""What a pass makes, holds and moves: activation bytes, the peak of what lives at once, memory traffic.

Three laws, over the operators ``o`` in order of execution:

    activation_bytes = sum_o bytes(storages that o makes)
    peak_bytes       = max_o bytes(storages made so far and still referred to after o)
    traffic_bytes    = sum_o (bytes(operands that o reads) + bytes(outputs that o writes))

An operator makes a storage when one of its outputs lies in a storage that none of its operands has: views
and in-place operators make nothing. A storage counts until nothing refers to it any more, which the
interpreter's reference counting tells at once, on meta tensors as on real ones. The peak is what an
allocator holds *above* weights, buffers and inputs, which were there before. `MemoryObserver.on(device)`
adds what that allocator is known to add: on the CPU what convolutions take for themselves while they run
(`workspace.cpu_workspace`), on CUDA the rounding of every storage to 512 bytes. Otherwise kernels are taken
to hold nothing but their results.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import UntypedStorage

from convfold.cost.counting.leaves import tensors
from convfold.cost.memory.traffic import traffic
from convfold.cost.memory.workspace import cpu_workspace
from convfold.errors import InvalidArgument

__all__ = ["MemoryObserver"]

# Their operand is a constant that was made for them a moment ago, out of any observer's sight.
_LIFTS = ("aten::lift_fresh", "aten::lift")


class MemoryObserver:
    """Follows the storages of what executed operators make.

    `activation_by_module` and `traffic_by_module` are by the path of the innermost module that ran the
    operator; `peak_at` is the module that was running when the peak was reached; `live_bytes` is what is
    held now. Every storage is rounded up to a multiple of `rounding` bytes. `workspace(func, args, kwargs,
    out)` says what a call held besides, until it returned: it raises the peak, nothing else. Raises
    InvalidArgument when `rounding` is not positive.
    """

    def __init__(self, *, rounding: int = 1, workspace: Callable[..., int] | None = None) -> None:
        if rounding < 1:
            raise InvalidArgument("storages are rounded up to a multiple of bytes", got=rounding, expected="at least 1")
        self.activation_by_module: Counter[str] = Counter()
        self.traffic_by_module: Counter[str] = Counter()
        self.live_bytes = 0
        self.peak_bytes = 0
        self.peak_at = ""
        self._rounding = rounding
        self._workspace = workspace
        self._sizes: dict[int, int] = {}
        self._watched: dict[int, weakref.ref[UntypedStorage]] = {}

    @classmethod
    def on(cls, device: torch.device | str) -> MemoryObserver:
        """An observer whose peak is that of torch's allocator on `device`, whatever device is observed."""
        kind = torch.device(device).type
        return cls(rounding=512 if kind == "cuda" else 1, workspace=cpu_workspace if kind == "cpu" else None)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all storages made, whether or not they lived at the same time."""
        return self.activation_by_module.total()

    @property
    def traffic_bytes(self) -> int:
        """Bytes read and written by all operators."""
        return self.traffic_by_module.total()

    def see(self, func: Any, args: Any, kwargs: Any, out: Any, path: str) -> None:
        """Account for one executed operator, called by the innermost running module at `path`."""
        given = {storage._cdata: storage for storage in _storages((args, kwargs))}
        made = {storage._cdata: storage for storage in _storages(out)}
        lifted = func._schema.name in _LIFTS
        for key, storage in made.items():
            if key not in self._sizes and (lifted or key not in given):
                self._follow(key, storage, path)
        if func._schema.is_mutable:
            self._resize(given, path)
        held = self.live_bytes + (self._workspace(func, args, kwargs, out) if self._workspace else 0)
        if held > self.peak_bytes:
            self.peak_bytes, self.peak_at = held, path
        self.traffic_by_module[path] += traffic(func, args, kwargs, out)

    def _follow(self, key: int, storage: UntypedStorage, path: str) -> None:
        sizes, watched, observer = self._sizes, self._watched, weakref.ref(self)

        def freed(_: object) -> None:
            watched.pop(key, None)
            held = sizes.pop(key, 0)
            if (still := observer()) is not None:
                still.live_bytes -= held

        sizes[key] = size = self._rounded(storage)
        watched[key] = weakref.ref(storage, freed)
        self.live_bytes += size
        self.activation_by_module[path] += size

    def _resize(self, given: dict[int, UntypedStorage], path: str) -> None:
        # ``out=`` and ``resize_`` may have given a storage that was made before another size.
        for key, storage in given.items():
            before = self._sizes.get(key)
            if before is not None and (after := self._rounded(storage)) != before:
                self._sizes[key] = after
                self.live_bytes += after - before
                self.activation_by_module[path] += max(0, after - before)

    def _rounded(self, storage: UntypedStorage) -> int:
        return -(-storage.nbytes() // self._rounding) * self._rounding


def _storages(tree: object) -> list[UntypedStorage]:
    found = []
    for tensor in tensors(tree):
        try:
            found.append(tensor.untyped_storage())
        except NotImplementedError:  # sparse and nested tensors hold theirs inside
            continue
    return found
