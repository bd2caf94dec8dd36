"""Lowered models as ONNX files: no 1x1 convolution, no matrix product in its place, the same outputs."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from convfold.transform.lower import lower
from convfold.transform.ship import save_onnx
from convfold.zoo import open_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Everything(nn.Module):
    """1x1 convolutions of every kind, on maps in both layouts, with a classifier behind."""

    def __init__(self) -> None:
        super().__init__()
        self.prime = nn.Conv2d(3, 12, 1)
        self.grouped = nn.Conv2d(12, 6, 1, stride=2, groups=2, padding=1)
        self.scale = nn.Conv2d(6, 6, 1, groups=6, padding=1, padding_mode="circular")
        self.last = nn.Linear(6, 9)
        self.up = nn.ConvTranspose2d(9, 4, 1, stride=2, output_padding=1)
        self.tokens = nn.Conv1d(4, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.scale(self.grouped(torch.relu(self.prime(x)))))
        x = self.last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.tokens(torch.relu(self.up(x)).flatten(2))
        return self.head(x.mean(2))


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return (Everything() if name == "everything" else open_model(name)[0]).eval()


@pytest.mark.parametrize(
    "name", ["everything", "torchvision:resnet18", "torchvision:mobilenet_v2", "torchvision:shufflenet_v2_x0_5"]
)
def test_no_pointwise_convolution_is_left_in_the_file(name: str, tmp_path: Path) -> None:
    model, x, path = built(name), torch.randn(1, 3, 32, 32), tmp_path / "lowered.onnx"
    kernels = kernels_of(model, x, tmp_path / "original.onnx")
    assert any(kernel[2:] == (1,) * len(kernel[2:]) for kernel in kernels["Conv"])
    found = kernels_of(lower(model, x, "no-1x1"), x, path)
    assert found["Conv"]
    assert all(max(kernel[2:]) > 1 for kernel in found["Conv"])
    assert "ConvTranspose" not in found
    # The classifier is the one product there is, as it was before.
    products = [kernel for kind in ("Gemm", "MatMul", "Einsum") for kernel in found.get(kind, ())]
    classifier = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    assert [sorted(kernel) for kernel in products] == [sorted(classifier.weight.shape)]
    [got] = onnxruntime.InferenceSession(path).run(None, {"x" if name == "everything" else first(path): x.numpy()})
    with torch.no_grad():
        expected, wide = model(x), model.double()(x.double())
    own = float((expected - wide).abs().max())
    assert float((torch.from_numpy(got) - wide).abs().max()) <= 64 * max(own, 2e-7 * float(wide.abs().max()))


def first(path: Path) -> str:
    return str(onnx.load(path).graph.input[0].name)


def kernels_of(model: nn.Module, x: Tensor, path: Path) -> dict[str, list[tuple[int, ...]]]:
    """By operator, the shapes of the weights that the nodes of the exported file hold."""
    save_onnx(model, x, path)
    graph = onnx.load(path).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found: dict[str, list[tuple[int, ...]]] = {}
    for node in graph.node:
        held = [shapes[name] for name in node.input if len(shapes.get(name, ())) > 1]
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"):
            found.setdefault(node.op_type, []).append(held[0])
    return found
