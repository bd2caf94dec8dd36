"""What a model computes, seen from outside: its example inputs and the flow of values between its modules."""

from convfold.graph.flow import Call, Flow
from convfold.graph.inputs import ExampleInputs, describe, example_inputs
from convfold.graph.observe import flow_of

__all__ = ["Call", "ExampleInputs", "Flow", "describe", "example_inputs", "flow_of"]
