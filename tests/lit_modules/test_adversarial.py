"""Losses against values computed by hand, and the article's facts about their gradients."""

import math

import pytest
import torch
from torch import Tensor

from lit_modules.parts.adversarial import LOSSES, adversarial_loss

# sigma(1) = 0.731059, so log(1 + e^-1) = 0.313262, log(1 + e) = 1.313262, log(1 + e^-2) = 0.126928,
# log(1 + e^2) = 2.126928, log 2 = 0.693147.
REAL = torch.tensor([1.0, 0.0])
FAKE = torch.tensor([0.0, -1.0])
# Differences T_r - T_f are 1, 1; means are 0.5 and -0.5, so T_r - E T_f = 1.5, 0.5 and T_f - E T_r = -0.5, -1.5.
# log(1 + e^-1.5) = 0.201413, log(1 + e^-0.5) = 0.474077, log(1 + e^1.5) = 1.701413, log(1 + e^0.5) = 0.974077.
BY_HAND = {
    # (log(1+e^-1) + log 2)/2 + (log 2 + log(1+e^-1))/2;  (log 2 + log(1+e))/2
    "sgan": (1.006409, 1.003205),
    "rsgan": (0.313262, 1.313262),
    # (0.201413 + 0.474077)/2 twice;  (1.701413 + 0.974077)/2 twice
    "rasgan": (0.675490, 2.675490),
    # (0 + 1)/2 + (0 + 1)/2;  (1 + 4)/2
    "lsgan": (1.0, 2.5),
    # (0.25 + 0.25)/2 + (0.25 + 0.25)/2;  (2.25 + 6.25)/2 + (6.25 + 2.25)/2
    "ralsgan": (0.5, 8.5),
    # (0 + 1)/2 + (1 + 0)/2;  -(-1)/2
    "hinge": (1.0, 0.5),
    # (0 + 0.5)/2 + (0.5 + 0)/2;  (1.5 + 2.5)/2 + (2.5 + 1.5)/2
    "rahinge": (0.5, 4.0),
    "wgan": (-1.0, 0.5),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(2,), (2, 1), (1, 2, 1, 1)])
def test_values_by_hand(name: str, shape: tuple[int, ...]) -> None:
    loss = adversarial_loss(name)
    real, fake = REAL.reshape(shape), FAKE.reshape(shape)
    d, g = BY_HAND[name]
    assert loss.discriminator(real, fake).item() == pytest.approx(d, abs=2e-6)
    assert loss.generator(real, fake).item() == pytest.approx(g, abs=2e-6)
    if not loss.generator_uses_real:
        assert loss.generator(None, fake).item() == pytest.approx(g, abs=2e-6)


@pytest.mark.parametrize(
    ("name", "h", "expected"),
    [
        ("sgan", "linear", 0.5),  # -(0 - 1)/2
        ("sgan", "saturating", -(0.693147 + 0.313262) / 2),  # log(1 - sigma(t)) = -log(1 + e^t)
        ("rsgan", "linear", 1.0),  # T_r - T_f
        ("rsgan", "saturating", -0.313262),  # t = T_f - T_r = -1
    ],
)
def test_h(name: str, h: str, expected: float) -> None:
    assert adversarial_loss(name, h=h).generator(REAL, FAKE).item() == pytest.approx(expected, abs=2e-6)


def test_all_pairs() -> None:
    # T_r - T_f of all four pairs: 1, 2, 0, 1.
    loss = adversarial_loss("rsgan", pairing="all")
    d = (0.313262 + 0.126928 + 0.693147 + 0.313262) / 4
    g = (1.313262 + 2.126928 + 0.693147 + 1.313262) / 4
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(d, abs=2e-6)
    assert loss.generator(REAL, FAKE).item() == pytest.approx(g, abs=2e-6)


def generator_gradient(name: str, h: str, real: Tensor, fake: Tensor) -> Tensor:
    fake = fake.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(adversarial_loss(name, h=h).generator(real, fake), fake)
    return gradient * len(fake)


def test_generator_gradients_of_the_article() -> None:
    real, fake = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(generator_gradient("sgan", "log_sigmoid", real, fake), -(1 - fake.sigmoid()))
    assert torch.allclose(generator_gradient("rsgan", "log_sigmoid", real, fake), -(real - fake).sigmoid())
    assert torch.allclose(generator_gradient("rsgan", "linear", real, fake), -torch.ones_like(fake))
    # With h = -t the real batch does not matter to G.
    assert torch.equal(
        generator_gradient("rsgan", "linear", real, fake), generator_gradient("rsgan", "linear", real + 3, fake)
    )


@pytest.mark.parametrize("name", LOSSES)
def test_shift_of_all_scores(name: str) -> None:
    """Relativistic losses don't see a constant added to all scores; SGAN, LSGAN and hinge do."""
    real, fake = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def gradient(shift: float) -> Tensor:
        scores = torch.stack([real, fake]).add(shift).requires_grad_()
        loss = adversarial_loss(name).discriminator(scores[0], scores[1])
        return torch.autograd.grad(loss, scores)[0]

    unchanged = torch.allclose(gradient(0.0), gradient(0.7), atol=1e-12)
    assert unchanged == (name.startswith("r") or name == "wgan")


def test_js_divergence_at_the_optimum() -> None:
    """log 2 - L_D = JS(p x q, q x p) for T = log p/q, by sums over a discrete space of 7 points."""
    g = torch.Generator().manual_seed(2)
    p, q = torch.rand(2, 7, dtype=torch.float64, generator=g).softmax(dim=1)
    score = (p / q).log() + 5
    joint, swapped = p[:, None] * q[None, :], q[:, None] * p[None, :]
    differences = (score[:, None] - score[None, :]).requires_grad_()
    loss = (joint * torch.nn.functional.softplus(-differences)).sum()
    mean = (joint + swapped) / 2
    js = ((joint * (joint / mean).log()).sum() + (swapped * (swapped / mean).log()).sum()) / 2
    assert (math.log(2) - loss).item() == pytest.approx(js.item(), abs=1e-12)
    # The same expectation through our loss: every pair drawn as often as its probability says, in 1/4096ths.
    counts = (torch.distributions.Multinomial(1, joint.flatten()).probs * 4096).round().long()
    pairs = torch.repeat_interleave(torch.arange(49), counts)
    ours = adversarial_loss("rsgan").discriminator(score[pairs // 7], score[pairs % 7])
    assert ours.item() == pytest.approx(loss.item(), abs=2e-3)


def test_large_scores_stay_finite() -> None:
    scores = torch.tensor([1e4, -1e4])
    for name in LOSSES:
        loss = adversarial_loss(name)
        assert loss.discriminator(scores, -scores).isfinite(), name
        assert loss.generator(scores, -scores).isfinite(), name


def test_half_precision_scores_give_float32_losses() -> None:
    loss = adversarial_loss("sgan").discriminator(REAL.half(), FAKE.bfloat16())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(BY_HAND["sgan"][0], abs=2e-6)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown loss 'rsgam'\. Did you mean 'rsgan'\?"):
        adversarial_loss("rsgam")
    with pytest.raises(ValueError, match="unknown h 'lin'"):
        adversarial_loss("sgan", h="lin")
    with pytest.raises(ValueError, match="sgan and rsgan only, not to 'hinge'"):
        adversarial_loss("hinge", h="linear")
    with pytest.raises(ValueError, match="rsgan only, not to 'sgan'"):
        adversarial_loss("sgan", pairing="all")
    with pytest.raises(ValueError, match="2 real and 3 fake scores"):
        adversarial_loss("sgan").discriminator(REAL, torch.zeros(3))
    with pytest.raises(ValueError, match="needs the scores of real samples"):
        adversarial_loss("rsgan").generator(None, FAKE)
