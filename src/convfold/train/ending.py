"""What a training ends with: folded, verified, tested again, written in every form, and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from safetensors.torch import save
from torch import nn

from convfold.errors import ConvfoldError, NotFoldable
from convfold.files import write_bytes
from convfold.plan import plan
from convfold.train.building import totals
from convfold.train.distributed import World
from convfold.train.learner import EpochRecord
from convfold.train.session import Session
from convfold.transform.ship import ONNX_NEEDS, save_onnx
from convfold.verify import verify
from convfold.verify.certificate import Certificate
from convfold.zoo import apart

__all__ = ["Outcome", "finish"]


@dataclass(frozen=True)
class Outcome:
    """A finished training. `costs`: MACs, parameters, convolutions and bytes of weights of the model as "named", as
    "trained" and as "folded". `changed`: test images that the folded network gives another class than the trained
    one. `onnx`: what is known of the ONNX file, or why there is none. `shown`: what an input image has to be.
    """

    history: list[EpochRecord]
    certificate: Certificate
    test_images: int
    wrong_trained: int
    wrong_folded: int
    changed: int
    costs: Mapping[str, Mapping[str, int]]
    onnx: str
    shown: Mapping[str, Any]

    @property
    def equal(self) -> bool:
        """Whether folding changed nothing, by its certificate."""
        return bool(self.certificate)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rest = {name: getattr(self, name) for name in ("test_images", "wrong_trained", "wrong_folded", "changed")}
        last = asdict(self.history[-1])
        return {
            **rest,
            "last_epoch": last,
            "certificate": self.certificate.to_dict(),
            "costs": {name: dict(cost) for name, cost in self.costs.items()},
            "onnx": self.onnx,
            "input": dict(self.shown),
        }


def finish(session: Session, on_stage: Callable[[str], None] | None = None) -> Outcome | None:
    """Fold the trained network, prove it equal, test it again, and write all files; `on_stage` hears what is begun.

    In the first process alone; the others part here, and get None. A network that is not equal is not written as
    folded. Raises NotFoldable, FileProblem, and what `save_onnx` raises.
    """
    world = session.world
    world.close()
    if not world.first:
        return None
    stage = on_stage or (lambda what: None)
    folder, built, images = session.folder, session.built, session.images
    trained = session.shipped()
    stage("writing the trained weights")
    _write(folder.final, trained)
    stage("folding")
    example = built.example
    decided = plan(trained, example)
    if decided.blocking:
        raise NotFoldable(decided.blocking[0])
    folded = decided.apply()
    stage("verifying the folded network")
    certificate = verify(trained, folded, example)
    stage("testing the folded network")
    # The other processes have left; what is tested now is the whole part.
    learner = session.learner
    learner.world = World(device=world.device)
    before, after = (learner.predictions(model.to(world.device), images.test) for model in (trained, folded))
    trained, folded = trained.cpu(), folded.cpu()
    costs = {
        "named": built.plain_cost,
        "trained": totals(trained, example[:1]),
        "folded": totals(folded, example[:1]),
    }
    onnx = "not written, since the folded network is not equal"
    if certificate:
        stage("writing the folded network")
        _write(folder.folded, folded)
        decided.save(folder.plan)
        stage("exporting to ONNX")
        onnx = _export(session, folded)
    outcome = Outcome(
        session.history,
        certificate,
        len(images.test),
        int((before != images.test.labels).sum()),
        int((after != images.test.labels).sum()),
        int((before != after).sum()),
        costs,
        onnx,
        _shown(session),
    )
    folder.write_json(folder.result, {**outcome.to_dict(), "settings": session.identity})
    return outcome


def _write(path: Any, model: nn.Module) -> None:
    write_bytes(path, save(apart(model.state_dict())))


def _export(session: Session, folded: nn.Module) -> str:
    if missing := [name for name in ONNX_NEEDS if find_spec(name) is None]:
        return f"not written: {' and '.join(missing)} not installed (pip install 'convfold[onnx]')"
    try:
        return save_onnx(folded, session.built.example, session.folder.onnx)
    except ConvfoldError as error:
        # A network that ONNX cannot say is trained and folded all the same.
        return f"not written: {error}"


def _shown(session: Session) -> dict[str, Any]:
    view = session.built.view
    return {
        "shape": list(view.shape),
        "white": view.white,
        "mean": [round(float(value), 6) for value in view.mean.flatten()],
        "std": [round(float(value), 6) for value in view.std.flatten()],
        "classes": list(session.images.classes),
    }
