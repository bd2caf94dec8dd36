"""What an ONNX file executes, holds and moves, node by node. Needs onnx and onnx_ir."""
