"""FreeformAutoencoder and FreeformClassifier through the real Trainer."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from callbacks.protocols import SupportsDecoding, SupportsEncoding, SupportsReconstruction
from lit_modules import FreeformAutoencoder, FreeformClassifier, collect
from lit_modules.freeform import CenterLoss
from tests.lit_modules.training import fitted, logged, parameters_differ_by

SMALL: dict[str, Any] = {"image_size": 8, "hidden_dim": 6}


class Labeled:
    """A loader of fixed batches: images (B, 1, 8, 8) in [0, 1] and labels (B,)."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int) -> None:
        self.parts = list(zip(images.split(batch_size), labels.split(batch_size), strict=True))

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Any:
        return iter(self.parts)


@pytest.fixture
def images() -> Tensor:
    """40 images (40, 1, 8, 8): a bright column says which of 4 classes, i % 4, an image is of."""
    x = 0.1 * torch.rand(40, 1, 8, 8)
    for number in range(40):
        x[number, :, :, 2 * (number % 4)] += 0.9
    return x


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(40) % 4


def test_article_s_sizes() -> None:
    shapes = {name: tuple(p.shape) for name, p in FreeformAutoencoder().named_parameters() if p.dim() == 2}
    assert shapes == {"encoder.1.weight": (100, 784), "decoder.0.weight": (784, 100)}
    shapes = {name: tuple(p.shape) for name, p in FreeformClassifier().named_parameters() if p.dim() == 2}
    assert shapes == {"encoder.1.weight": (100, 784), "classifier.weight": (10, 100)}


def test_autoencoder_s_first_step_by_hand(trainer: Any, batches: Any, images: Tensor) -> None:
    model = FreeformAutoencoder(**SMALL, optimizer="SGD", learning_rate=0.5)
    (w1, b1), (w2, b2) = ((layer.weight, layer.bias) for layer in (model.encoder[1], model.decoder[0]))
    x = images.flatten(1)
    loss = ((((x @ w1.T + b1).relu() @ w2.T + b2).sigmoid() - x) ** 2).mean()
    grads = torch.autograd.grad(loss, [w1, b1, w2, b2])
    expected = [p.detach() - 0.5 * g for p, g in zip([w1, b1, w2, b2], grads, strict=True)]
    t = trainer(max_steps=1)
    t.fit(model, batches(images, 40))
    assert logged(t, "train/") == pytest.approx({"loss": loss.item(), "reconstruction": loss.item()})
    for p, q in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), q)


def test_autoencoder_s_callers(trainer: Any, batches: Any, images: Tensor) -> None:
    model = FreeformAutoencoder(**SMALL)
    assert isinstance(model, SupportsEncoding)
    assert isinstance(model, SupportsDecoding)
    assert isinstance(model, SupportsReconstruction)
    t = trainer()
    (validated,) = t.validate(model, batches(images, 24), verbose=False)
    (tested,) = t.test(model, batches(images, 24), verbose=False)
    error = (model.reconstruct(images) - images).square().mean().item()
    assert validated == pytest.approx({"val/loss": error, "val/reconstruction": error})
    assert tested["test/loss"] == pytest.approx(error)
    assert torch.equal(model.decode(model.encode(images)), model(images))
    assert [codes.shape for codes in t.predict(model, batches(images, 24))] == [(24, 6), (16, 6)]


def test_classifier_s_numbers_by_hand(trainer: Any, images: Tensor, labels: Tensor) -> None:
    """Center loss, the watched layer and accuracy, in training and over unequal batches of validation."""
    model = FreeformClassifier(**SMALL, classes=4, feature_dim=2, center_loss_weight=0.3, learning_rate=0.0)
    assert model.center_loss is not None
    model.center_loss.centers.data.normal_()
    h = model.encoder(images)
    f = model.feature(h)
    logits = model.classifier(f)
    center = 0.5 * (f - model.center_loss.centers[labels]).square().sum(dim=1).mean().item()
    entropy = cross_entropy(logits, labels).item()
    expected = {
        "x_h_norm": h.square().sum(dim=1).mean().item(),
        "center": center,
        "cross_entropy": entropy,
        "loss": entropy + 0.3 * center,
        "accuracy": (logits.argmax(dim=1) == labels).float().mean().item(),
    }
    t = trainer(max_steps=1)
    t.fit(model, Labeled(images, labels, 40), Labeled(images, labels, 24))
    assert logged(t, "train/") == pytest.approx(expected, rel=1e-5)
    assert logged(t, "val/") == pytest.approx(expected, rel=1e-5)
    (tested,) = t.test(model, Labeled(images, labels, 24), verbose=False)
    assert tested["test/accuracy"] == pytest.approx(expected["accuracy"])
    torch.testing.assert_close(model.encode(images), f.detach())
    classes = torch.cat(t.predict(model, Labeled(images, labels, 24)))
    assert torch.equal(classes, logits.argmax(dim=1))


def test_gradient_of_center_loss() -> None:
    """Of 0.5 |f - c|^2: f - c for the feature, and c - f for the center, over the batch."""
    loss, y = CenterLoss(3, 2), torch.tensor([0, 2, 2, 0])
    f = torch.randn(4, 2, requires_grad=True)
    with collect() as added:
        assert loss(f, y) is f
    added.take().backward()  # type: ignore[union-attr]
    torch.testing.assert_close(f.grad, f.detach() / 4)
    sums = torch.stack([f[[0, 3]].sum(dim=0), torch.zeros(2), f[1:3].sum(dim=0)]).detach()
    torch.testing.assert_close(loss.centers.grad, -sums / 4)


def test_classifier_learns(trainer: Any, images: Tensor, labels: Tensor) -> None:
    """All classes, and with center loss features that are nearer to their centers than centers are to each other."""
    small = SMALL | {"hidden_dim": 32, "learning_rate": 0.01}
    model = FreeformClassifier(**small, classes=4, feature_dim=2, center_loss_weight=0.1)
    t = trainer(max_steps=300, max_epochs=-1)
    t.fit(model, Labeled(images, labels, 20), Labeled(images, labels, 24))
    assert t.callback_metrics["val/accuracy"] == 1
    assert model.center_loss is not None
    centers, f = model.center_loss.centers.detach(), model.encode(images)
    assert torch.equal(torch.cdist(f, centers).argmin(dim=1), labels)
    assert (f - centers[labels]).norm(dim=1).max() < torch.pdist(centers).min() / 2


def test_networks_of_ones_own(trainer: Any, batches: Any, images: Tensor, labels: Tensor, tmp_path: Path) -> None:
    encoder = nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten())
    decoder = nn.Sequential(nn.Unflatten(1, (2, 1, 1)), nn.ConvTranspose2d(2, 1, 8), nn.Sigmoid())
    autoencoder = FreeformAutoencoder(image_size=8, encoder=copy.deepcopy(encoder), decoder=decoder)
    assert autoencoder.encode(images).shape == (40, 2)
    fitted(trainer, batches(images, 20), autoencoder)
    own: dict[str, Any] = {"encoder": encoder, "classifier": nn.Linear(2, 4, bias=False)}
    model = FreeformClassifier(image_size=8, classes=4, hidden_dim=2, **own)
    t = trainer(max_steps=2)
    t.fit(model, Labeled(images, labels, 20))
    t.save_checkpoint(tmp_path / "own.ckpt")
    again = FreeformClassifier.load_from_checkpoint(tmp_path / "own.ckpt", weights_only=True, **own)
    assert torch.equal(again(images), model(images))
    assert dict(again.hparams) == dict(model.hparams)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim=0 must be at least 1"),
        ({"image_size": 0}, "image_size=0 must be at least 1"),
        ({"classes": 1}, "classes=1 must be at least 2"),
        ({"feature_dim": -1}, "feature_dim=-1 must be at least 0"),
        ({"center_loss_weight": -0.1}, "center_loss_weight=-0.1 must be at least 0"),
        ({"warmup_steps": -1}, "warmup_steps=-1 must be at least 0"),
        ({"lr_schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"optimizer": "Adm"}, "Did you mean 'torch.optim.Adam'"),
        ({"optimizer_args": {"epps": 1}}, "Did you mean 'eps'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FreeformClassifier(**arguments)


def test_misfit_batches(trainer: Any, batches: Any, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\), the model takes \(1, 28, 28\): set model.image_size"):
        trainer(max_steps=1).fit(FreeformAutoencoder(), batches(images, 20))
    with pytest.raises(ValueError, match=r"the decoder makes \(20, 64\), the batch holds \(20, 1, 8, 8\)"):
        trainer(max_steps=1).fit(FreeformAutoencoder(**SMALL, decoder=nn.Linear(6, 64)), batches(images, 20))
    with pytest.raises(ValueError, match=r"labels from 0 to 9, the batch holds -1 to 10: set model.classes"):
        trainer(max_steps=1).fit(FreeformClassifier(**SMALL), Labeled(images, torch.arange(40) % 12 - 1, 20))
    with pytest.raises(ValueError, match="the batch holds none"):
        FreeformClassifier(**SMALL).training_step(images, 0)


def test_images_that_a_sigmoid_cannot_make_are_warned_of(trainer: Any, batches: Any, images: Tensor) -> None:
    with pytest.warns(UserWarning, match=r"images from -1 to .* set data.value_range to unit"):
        trainer(max_steps=1).fit(
            FreeformAutoencoder(**SMALL), batches(images.clone().index_fill_(3, torch.tensor(1), -1), 20)
        )


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute of a Tensor:UserWarning"
)
@pytest.mark.parametrize("module", [FreeformAutoencoder, FreeformClassifier])
def test_compiled_training_equals_eager(trainer: Any, batches: Any, images: Tensor, module: Any) -> None:
    own: dict[str, Any] = SMALL | {"optimizer": "SGD", "learning_rate": 0.1}
    if module is FreeformClassifier:
        own |= {"feature_dim": 2, "center_loss_weight": 0.1}
    eager, compiled = module(**own), module(**own, compile=True)
    compiled.load_state_dict(eager.state_dict())
    a, b = (fitted(trainer, batches(images, 20), model, max_epochs=-1) for model in (eager, compiled))
    assert parameters_differ_by(a, b) < 1e-5
