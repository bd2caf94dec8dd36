"""What stands beside the convolutions of a lowered layer: moving, padding, cropping and adding, no product."""

from convfold.transform.lower.steps.bias import AddBias
from convfold.transform.lower.steps.channels import PadChannels, TakeChannels
from convfold.transform.lower.steps.last_axis import LastAxis
from convfold.transform.lower.steps.pad import Pad
from convfold.transform.lower.steps.phases import Phases
from convfold.transform.lower.steps.shuffle import Shuffle
from convfold.transform.lower.steps.stuff import Stuff
from convfold.transform.lower.steps.tiles import Stack, Tiles

__all__ = ["AddBias", "LastAxis", "Pad", "PadChannels", "Phases", "Shuffle", "Stack", "Stuff", "TakeChannels", "Tiles"]
