"""What every comparison reads off a network: its loss, and its weights as a file's content."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import nn

from convfold.train import Data

__all__ = ["content", "mean_loss"]


def mean_loss(network: nn.Module, data: Data, train: bool) -> float:
    """Mean cross-entropy over the training or the test part of the data; leaves the network in eval mode."""
    network.eval()
    x, y = (data.train_x, data.train_y) if train else (data.test_x, data.test_y)
    with torch.no_grad():
        return float(F.cross_entropy(network(x), y))


def content(network: nn.Module) -> bytes:
    """The content of a safetensors file with all of its state."""
    return save({name: value.contiguous() for name, value in network.state_dict().items()})
