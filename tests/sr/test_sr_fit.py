"""Training: one recipe, every draw from the seed and the step, runs that go on as if they had not stopped."""

from pathlib import Path

import pytest
import torch

from convfold.errors import ConvfoldError, FileProblem, InvalidArgument
from convfold.train.sr import Degradation, Fit, SrRecipe, fit_sr, sr_arm, sr_network
from convfold.train.sr.state import load_fit, save_fit
from sr.photographs import picture

PICTURES = [picture(name) for name in "abc"]
RECIPE = SrRecipe(steps=6, batch_size=3, patch=6)
SETTINGS = {"steps": 6, "arm": "doconv", "rates": (1, 2)}


def fit(arm: str = "doconv", recipe: SrRecipe = RECIPE, kind: str = "moire", seed: int = 0) -> Fit:
    torch.manual_seed(seed)
    return Fit(sr_arm(sr_network(2, 1, 4, 3), arm), PICTURES, Degradation(2, kind), recipe, seed)


def finished(run: Fit) -> list[torch.Tensor]:
    while not run.done:
        run.advance()
    return list(run.model.state_dict().values())


def test_a_run_learns_and_is_its_seed() -> None:
    recipe = SrRecipe(steps=60, batch_size=4, patch=8, learning_rate=5e-3)
    torch.manual_seed(0)
    network = sr_network(2, 1, 4, 3)
    told: list[int] = []
    losses = fit_sr(network, PICTURES, Degradation(2), recipe, 0, lambda step, _: told.append(step))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert told == list(range(60))
    assert not network.training
    first, second = finished(fit()), finished(fit())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, finished(fit(seed=1)), strict=True))


@pytest.mark.parametrize("arm", ["plain", "doconv", "acnet"])
def test_a_run_stopped_anywhere_ends_with_the_same_bits(arm: str, tmp_path: Path) -> None:
    whole = finished(fit(arm))
    for stop in (1, 4, 5):
        run = fit(arm)
        for _ in range(stop):
            run.advance()
        save_fit(run, tmp_path / "run.safetensors", SETTINGS)
        del run
        torch.manual_seed(99)
        again = fit(arm)
        with torch.no_grad():
            for parameter in again.model.parameters():
                parameter.add_(1)  # nothing of a fresh start is left
        load_fit(again, tmp_path / "run.safetensors", SETTINGS)
        assert again.step == stop
        assert all(torch.equal(a, b) for a, b in zip(finished(again), whole, strict=True))
        assert len(again.losses) == 6


def test_a_batch_is_squares_of_the_pictures_as_they_are_made_smaller() -> None:
    run = fit(kind="bicubic")
    small, large = run.batch(4)
    assert (small.shape, large.shape) == ((3, 1, 6, 6), (3, 1, 12, 12))
    assert torch.equal(small, Degradation(2)(large))
    assert torch.equal(run.batch(4)[1], large)
    assert not torch.equal(run.batch(5)[1], large)
    for square in large:
        turned = [torch.rot90(square, k, (1, 2)) for k in range(4)]
        cuts = [p.tensor.unfold(1, 12, 1).unfold(2, 12, 1).flatten(1, 2)[0] for p in PICTURES]
        ways = [way[0] for t in turned for way in (t, t.flip(2))]
        assert any(bool((cut == way).flatten(1).all(1).any()) for cut in cuts for way in ways)


def test_a_loss_that_is_not_finite_stops_before_a_weight_moves() -> None:
    run = fit(recipe=SrRecipe(steps=6, batch_size=3, patch=6, learning_rate=1e30))
    run.advance()
    kept = [p.detach().clone() for p in run.model.parameters()]
    with pytest.raises(
        ConvfoldError, match=r"step 2 of 6, seed 0: the loss is no longer finite: got .*Lower the learn"
    ):
        run.advance()
    assert all(torch.equal(a, b) for a, b in zip(kept, run.model.parameters(), strict=True))
    assert run.step == 1


def test_impossible_runs() -> None:
    with pytest.raises(InvalidArgument, match=r"pictures are smaller than a patch: got a \(40x48\), .*at least 50x50"):
        fit(recipe=SrRecipe(patch=25))
    with pytest.raises(InvalidArgument, match="there are no pictures to train on"):
        Fit(sr_network(), [], Degradation(), RECIPE, 0)
    for name in ("steps", "batch_size", "patch"):
        with pytest.raises(InvalidArgument, match=f"{name}: it takes at least one: got 0, expected 1 or more"):
            SrRecipe(**{name: 0})
    with pytest.raises(InvalidArgument, match="learning_rate: a learning rate is positive: got -1"):
        SrRecipe(learning_rate=-1)
    with pytest.raises(InvalidArgument, match="loss: there is no such loss: got 'huber', expected l1, mse"):
        SrRecipe(loss="huber")


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    run, file = fit(), tmp_path / "run.safetensors"
    run.advance()
    save_fit(run, file, SETTINGS)
    fresh = fit()
    before = [t.clone() for t in fresh.model.state_dict().values()]
    with pytest.raises(
        InvalidArgument, match=r"begun with other settings: got steps 6 -> 7; learning rate nothing -> 1"
    ):
        load_fit(fresh, file, {**SETTINGS, "steps": 7, "learning_rate": 1})
    with pytest.raises(
        InvalidArgument, match=r"the checkpoint is of another network: got \d+ tensors that differ, first body"
    ):
        load_fit(fit("ecb"), file, SETTINGS)
    with pytest.raises(FileProblem, match="there is no such checkpoint"):
        load_fit(fresh, tmp_path / "none.safetensors", SETTINGS)
    content = file.read_bytes()
    file.write_bytes(content[:-9])
    with pytest.raises(FileProblem, match="this checkpoint cannot be read"):
        load_fit(fresh, file, SETTINGS)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(FileProblem, match="this is no checkpoint of convfold train sr"):
        load_fit(fresh, file, SETTINGS)
    assert all(torch.equal(a, b) for a, b in zip(before, fresh.model.state_dict().values(), strict=True))
    assert fresh.step == 0
