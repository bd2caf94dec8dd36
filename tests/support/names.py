"""Which blocks a test may run over."""

# Those that stand for any convolution and start from its kernel; the others have tests of their own.
ANYWHERE = ["acnet", "dbb", "doconv", "expandnet", "mobileone", "orepa", "qarepvgg", "repvgg"]
# Those of them that compute the same in training mode as well.
IN_TRAINING = [name for name in ANYWHERE if name != "qarepvgg"]
