"""Forwards that only pass values on: they run as well where values of another size flow."""

from __future__ import annotations

from types import CodeType

from torch import nn

__all__ = ["looks_at_no_size"]

# Of torch's own modules those that give what they were given, or give it to their children.
_PASSING = (nn.Identity, nn.Sequential, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_FORWARDS = frozenset(cls.forward for cls in _PASSING)
# What a tensor is asked for its size by; a module may have a child of such a name.
_TELLING = frozenset({"dim", "nbytes", "ndim", "ndimension", "nelement", "numel", "shape", "size", "stride"})


def looks_at_no_size(module: nn.Module) -> bool:
    """Whether a forward, as its code says, names nothing but modules of its own: none of these tells it a size."""
    forward = type(module).forward
    if "forward" in vars(module):
        return False
    if forward in _FORWARDS:
        return True
    code = getattr(forward, "__code__", None)
    return isinstance(code, CodeType) and _names_only(module, code)


def _names_only(module: nn.Module, code: CodeType) -> bool:
    inner = any(isinstance(constant, CodeType) for constant in code.co_consts)
    if inner or code.co_freevars:  # functions from elsewhere, or of its own
        return False
    return all(name not in _TELLING and isinstance(getattr(module, name, None), nn.Module) for name in code.co_names)
