"""Networks that are plain to begin with, for `convfold.expand` to make wide: a detector with several outputs."""

from convfold.train.networks.backbone import Backbone
from convfold.train.networks.detector import Detector, detector, detector_repvgg
from convfold.train.networks.head import Head
from convfold.train.networks.neck import Neck

__all__ = ["Backbone", "Detector", "Head", "Neck", "detector", "detector_repvgg"]
