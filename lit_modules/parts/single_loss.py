"""One loss whose one backward pass gives both players of a GAN their own gradients (article 5), in three forms.

With the discriminator D, the generator G, real samples x_r, fakes x_f = G(z), sg the stop-gradient and L_D,
L_G the players' losses of the scores:

    article      L_D(D(x_r), D(sg x_f)) + lambda [L_G(D(x_r), D(x_f)) - L_G(D(x_r), D(sg x_f))]
    functional   L_D(D(x_r), D(sg x_f)) + lambda [L_G(D(x_r), D'(x_f)) - its value], D' = D with constant weights
    one pass     D runs once, on [x_r; x_f]

The brackets are 0 but their gradients are lambda times G's. In the first form D's own gradient in the bracket
cancels, provided that D gives the same scores twice: no dropout. ``cached_weights`` sees to the spectral norm.

The one pass needs a D that scores each sample by itself. Let s_f = D(x_f), and per sample a = dL_D/ds_f and
b = dL_G/ds_f. Going back from L_D alone gives D all its gradients, and at the fake sample i a_i dD/dx_i. Times
lambda b_i / a_i this is lambda dL_G/dx_i, what G has to get. In forward passes d of D and g of G, with 2 for
a backward pass, article costs 9d + 3g, functional 8d + 3g, one pass 6d + 3g; alternating updates on the same
fakes 8d + 3g, or 9d + 3g if L_G uses the real scores.

All functions here need torch alone, and work in any training loop::

    step = one_pass_loss(D, x_r, G(z), d_loss, g_loss)
    optimizer.zero_grad()
    step.loss.backward()
    optimizer.step()

Source: article 5 (Scientific Spaces, 2019-02-22) for the first form, in the opposite sign of D.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_modules.parts.networks import cached_weights, frozen

ScoreLoss = Callable[[Tensor, Tensor], Tensor]


class SingleLoss(NamedTuple):
    """What a form returns.

    Attributes:
        loss: the scalar to go back from; its value is that of ``d_loss``.
        d_loss: L_D (scalar), without gradient.
        g_loss: L_G (scalar), without gradient and without lambda.
        real_scores: of the real samples, without gradient, in the shape that D gives.
        fake_scores: of the fakes.
    """

    loss: Tensor
    d_loss: Tensor
    g_loss: Tensor
    real_scores: Tensor
    fake_scores: Tensor


def article_loss(
    discriminator: nn.Module,
    real: Tensor,
    fake: Tensor,
    discriminator_loss: ScoreLoss,
    generator_loss: ScoreLoss,
    *,
    generator_weight: float = 1.0,
) -> SingleLoss:
    """The article's form, for any discriminator that gives the same samples the same scores twice.

    Args:
        discriminator: from samples (B, ...) to scores.
        real: samples (B, ...).
        fake: G(z) with its graph, (B, ...).
        discriminator_loss: L_D, a scalar, of the real and the fake scores.
        generator_loss: L_G, the same.
        generator_weight: lambda.

    Raises:
        ValueError: fakes that were detached from the generator.
    """
    _check_attached(fake)
    with cached_weights(discriminator):
        real_scores, fake_scores = discriminator(real), discriminator(fake.detach())
        attached_scores = discriminator(fake)
    d_loss = discriminator_loss(real_scores, fake_scores)
    constant = real_scores.detach()
    g_loss = generator_loss(constant, attached_scores)
    loss = d_loss + generator_weight * (g_loss - generator_loss(constant, fake_scores))
    # The bracket is rounding error; what is reported is D's loss itself.
    loss = d_loss.detach() + (loss - loss.detach())
    return _detached(loss, d_loss, g_loss, real_scores, fake_scores)


def functional_loss(
    discriminator: nn.Module,
    real: Tensor,
    fake: Tensor,
    discriminator_loss: ScoreLoss,
    generator_loss: ScoreLoss,
    *,
    generator_weight: float = 1.0,
) -> SingleLoss:
    """The form with constant weights in G's term, for any discriminator; arguments as in :func:`article_loss`.

    Raises:
        ValueError: fakes that were detached from the generator.
    """
    _check_attached(fake)
    with cached_weights(discriminator):
        real_scores, fake_scores = discriminator(real), discriminator(fake.detach())
    d_loss = discriminator_loss(real_scores, fake_scores)
    with frozen(discriminator), cached_weights(discriminator, iterate=False):
        g_loss = generator_loss(real_scores.detach(), discriminator(fake))
    loss = d_loss + generator_weight * (g_loss - g_loss.detach())
    return _detached(loss, d_loss, g_loss, real_scores, fake_scores)


def one_pass_loss(
    discriminator: nn.Module,
    real: Tensor,
    fake: Tensor,
    discriminator_loss: ScoreLoss,
    generator_loss: ScoreLoss,
    *,
    generator_weight: float = 1.0,
    concatenate: bool | None = None,
) -> SingleLoss:
    """The exact one-pass form, for a discriminator with one score a sample that depends on no other sample.

    ``probing.mixing_layer`` tests that. Arguments as in :func:`article_loss`, but the losses get scores of
    shape (B,), in float32 at least.

    Args:
        concatenate: True to call D once, on [x_r; x_f], False to call it on the one and then on the other, which
            is the same arithmetic. None for the faster one: two calls for images on a CPU, where the larger
            buffers cost more than a call (benchmarks/gan_step.py) and gradients of real images are not needed.

    Raises:
        ValueError: fakes that were detached from the generator; a discriminator with several scores a sample.
    """
    _check_attached(fake)
    # Another view of the fakes, so that only what comes back through D is scaled.
    entering = fake.view_as(fake)
    if concatenate is None:
        concatenate = real.device.type != "cpu" or real.dim() <= 2
    with cached_weights(discriminator):
        if concatenate:
            scores = discriminator(torch.cat([real, entering]))
        else:
            scores = torch.cat([discriminator(real), discriminator(entering)])
    _check_one_score_each(scores, len(real) + len(fake))
    flat = scores.reshape(-1).to(torch.promote_types(scores.dtype, torch.float32))
    leaf = flat.detach().requires_grad_()
    real_scores, fake_scores = leaf.split([len(real), len(fake)])
    d_loss, g_loss = discriminator_loss(real_scores, fake_scores), generator_loss(real_scores, fake_scores)
    (of_d,), (of_g,) = torch.autograd.grad(d_loss, leaf), torch.autograd.grad(g_loss, leaf)
    of_g = generator_weight * of_g[len(real) :]
    of_d = torch.cat([of_d[: len(real)], _away_from_zero(of_d, of_g, _coarsest_type(scores))])
    ratio = of_g / of_d[len(real) :]

    def scale(gradient: Tensor) -> Tensor:
        return (gradient * ratio.reshape(-1, *[1] * (gradient.dim() - 1))).to(gradient.dtype)

    entering.register_hook(scale)
    surrogate = torch.dot(flat, of_d)
    loss = d_loss.detach() + (surrogate - surrogate.detach())
    return _detached(loss, d_loss, g_loss, *scores.split([len(real), len(fake)]))


FORMS = {"article": article_loss, "functional": functional_loss, "one_pass": one_pass_loss}


def _away_from_zero(of_d: Tensor, of_g: Tensor, dtype: torch.dtype) -> Tensor:
    """The fake half a of ``of_d``, with |a| raised to a floor so small that D's gradient doesn't notice.

    Where a is 0 (hinge, saturated) there would be nothing for the ratio to scale. The floor is eps^1.5 times the
    largest entry of dL_D/ds, 4e-11 in float32: a batch of 1000 such samples shifts D's gradient by 4e-8, and G's
    is exact, since floating-point numbers scale. It can be no constant: the scores' gradients shrink with the
    batch and with D's certainty, and float16, with its 5 exponent bits, has no room for a smaller one.
    """
    size, other = of_d.abs().amax(), of_g.abs().amax()
    # All of D's gradients may be 0, and G's too; then all that counts is that 0 is not divided by 0.
    size = torch.where(size > 0, size, torch.where(other > 0, other, 1e-20))
    floor = size * torch.finfo(dtype).eps ** 1.5
    a = of_d[-len(of_g) :]
    return torch.where(a.abs() < floor, torch.copysign(floor, a), a)


def _coarsest_type(scores: Tensor) -> torch.dtype:
    """The type in which gradients go back through D; bfloat16 counts as float32, whose exponents it has."""
    device = scores.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else scores.dtype
    return torch.float32 if dtype == torch.bfloat16 else dtype


def _check_attached(fake: Tensor) -> None:
    if not fake.requires_grad:
        raise ValueError("the fakes have no graph: pass G(z) as it is, not detached and not made under no_grad")


def _check_one_score_each(scores: Tensor, samples: int) -> None:
    if scores.numel() != samples:
        raise ValueError(
            f"one pass needs one score a sample, but the discriminator gives {tuple(scores.shape)} for {samples}"
            " samples: use mode='article' or 'functional', or average its scores"
        )


def _detached(loss: Tensor, *others: Tensor) -> SingleLoss:
    return SingleLoss(loss, *(other.detach() for other in others))
