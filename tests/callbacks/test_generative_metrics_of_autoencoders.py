"""What GenerativeMetrics says of autoencoders: of reconstructions and codes."""

from typing import Any

import pytest
import torch
from torch import Tensor

from callbacks.normality import sliced_ks
from tests.callbacks.modules import (
    IdentityAutoencoder,
    Images,
    ImagesWithReference,
    TinyAutoencoder,
    TinyClassifier,
    TinyGAN,
    lightning_noise,
    quiet_trainer,
)
from tests.callbacks.test_generative_metrics import by_hand, callback

pytestmark = lightning_noise

OF_AUTOENCODERS = ("fid_samples", "fid_reconstructions", "normality")


def evaluate(
    module: Any, data: Images, metrics: tuple[str, ...] = OF_AUTOENCODERS, **arguments: Any
) -> dict[str, float]:
    """What one validation logs."""
    trainer = quiet_trainer(callbacks=[callback(metrics=metrics)], **arguments)
    trainer.validate(module, data, verbose=False)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("data", [Images(n=40), ImagesWithReference(n=40)])
def test_metrics_of_an_autoencoder_are_those_of_its_reconstructions_and_codes(data: Images) -> None:
    torch.manual_seed(0)
    module, images = TinyAutoencoder().eval(), data.data.tensors[0]
    found = evaluate(module, data, (*OF_AUTOENCODERS, "fid", "kid"))
    real = data.reference if isinstance(data, ImagesWithReference) else images
    assert found.keys() == {f"val/{name}" for name in (*OF_AUTOENCODERS, "fid", "kid")}
    with torch.no_grad():
        expected = by_hand(real, module.reconstruct(images))["val/fid"]
        codes = module.encode(images)
    assert found["val/fid_reconstructions"] == pytest.approx(expected, rel=1e-4)
    assert found["val/normality"] == pytest.approx(sliced_ks(codes).item(), rel=1e-5)
    assert found["val/fid_samples"] == found["val/fid"]
    assert found["val/fid_samples"] != pytest.approx(expected, rel=0.01)


def test_perfect_reconstructions_have_no_distance_to_the_images() -> None:
    assert evaluate(IdentityAutoencoder(), Images(n=80))["val/fid_reconstructions"] == pytest.approx(0, abs=1e-4)


def test_every_validation_counts_its_own_codes_and_reconstructions() -> None:
    torch.manual_seed(0)
    module, data = TinyAutoencoder(), Images(n=40)
    trainer = quiet_trainer(max_epochs=3, callbacks=[callback(metrics=OF_AUTOENCODERS)], num_sanity_val_steps=1)
    trainer.fit(module, data)
    assert module.encoder.training
    again = evaluate(module, data)
    for name in ("val/fid_reconstructions", "val/normality"):
        assert trainer.callback_metrics[name].item() == pytest.approx(again[name], rel=1e-4)


class Restless(TinyAutoencoder):
    """Trains while it validates, all but its decoder, and draws noise when it encodes; notes its modes."""

    def __init__(self) -> None:
        super().__init__()
        self.within: list[bool] = []
        self.after: list[tuple[bool, bool, bool]] = []
        self.random: list[Tensor] = []

    def on_validation_model_eval(self) -> None:
        self.train()
        self.decoder.eval()

    def encode(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            self.within += [self.training, self.encoder.training]
        return super().encode(x) + 0.1 * torch.randn(1)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.after.append((self.training, self.encoder.training, self.decoder.training))
        self.random.append(torch.get_rng_state())


@pytest.mark.parametrize("metric", ["fid_reconstructions", "normality"])
def test_images_are_encoded_in_evaluation_mode_and_nothing_is_left_of_it(metric: str) -> None:
    module = Restless()
    # Eight batches: each step sees what the callback left after the batch before.
    evaluate(module, Images(), (metric,))
    assert len(module.within) == 2 * 8
    assert not any(module.within)
    assert module.after == [(True, True, False)] * 8
    assert all(torch.equal(state, module.random[0]) for state in [*module.random, torch.get_rng_state()])


def test_a_metric_asks_for_no_more_than_it_needs() -> None:
    class Encoder(TinyClassifier):
        def encode(self, x: Tensor) -> Tensor:
            return self.network(x.flatten(1))

    data = ImagesWithReference()
    assert evaluate(Encoder(), data, ("normality",)).keys() == {"val/normality"}
    assert data.passes == 0
    with pytest.raises(TypeError, match=r"needs a module with reconstruct\(\), which Encoder"):
        evaluate(Encoder(), data, ("fid_reconstructions",))
    with pytest.raises(TypeError, match=r"needs a module with sample\(\), which Encoder"):
        evaluate(Encoder(), data, ("fid_samples",))
    with pytest.raises(TypeError, match=r"needs a module with encode\(\), which TinyGAN"):
        evaluate(TinyGAN(), data, ("normality",))


class LosesItself(TinyAutoencoder):
    """Only one image is lost, which one of two processes has."""

    def encode(self, x: Tensor) -> Tensor:
        codes = super().encode(x)
        lost = (x == Images().data.tensors[0][5]).flatten(1).all(dim=1, keepdim=True)
        return codes.masked_fill(lost, torch.nan)


@pytest.mark.parametrize(
    "arguments", [{}, pytest.param({"devices": 2, "strategy": "ddp_spawn"}, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("metric", "what"), [("fid_reconstructions", "reconstructions"), ("normality", "codes")])
def test_non_finite_codes_and_reconstructions_stop_all_processes(
    metric: str, what: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(Exception, match=f"{what} of LosesItself hold NaN or infinity at step 0"):
        evaluate(LosesItself(), Images(), (metric,), **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("data", [ImagesWithReference(), Images(n=32)])
def test_two_processes_see_the_codes_and_reconstructions_that_one_sees(data: Images) -> None:
    torch.manual_seed(0)
    module = TinyAutoencoder()
    one, two = (evaluate(module, data, **more) for more in ({}, {"devices": 2, "strategy": "ddp_spawn"}))
    assert two == pytest.approx(one, rel=1e-5)
