"""Forwards that only pass values on: they run as well where values of another size flow."""

from __future__ import annotations

from types import CodeType

from torch import nn

__all__ = ["looks_at_no_size"]

# Of torch's own modules those that give what they were given, or give it to their children.
_PASSING = (nn.Identity, nn.Sequential, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_FORWARDS = frozenset(cls.forward for cls in _PASSING)


def looks_at_no_size(module: nn.Module) -> bool:
    """Whether a forward, as its code says, names nothing but modules of its own: none of these tells it a size."""
    forward = type(module).forward
    if "forward" in vars(module):
        return False
    if forward in _FORWARDS:
        return True
    code = getattr(forward, "__code__", None)
    return isinstance(code, CodeType) and all(
        isinstance(getattr(module, name, None), nn.Module) for name in code.co_names
    )
