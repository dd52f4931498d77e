"""Adversarial losses by name: SGAN, LSGAN, hinge and WGAN, and their relativistic forms.

Notation of article 1 (RSGAN): T_r = T(x_r) and T_f = T(x_f) are the discriminator's raw scores, without a
sigmoid, of a real and of a fake sample, sigma is the sigmoid, E a mean over the batch. Every function takes
two tensors of shape (n,) and returns a scalar that its player minimizes. Since -log sigma(t) = softplus(-t) and
-log(1 - sigma(t)) = softplus(t), no sigmoid and no logarithm is ever taken.

Means and pairs run over the *global* batch in a distributed run (see ``distributed.global_batch``).

Sources: article 1; Jolicoeur-Martineau 2018 (arXiv 1807.00734) for the relativistic average ("ra") forms;
Mao et al. 2017 (LSGAN); Lim and Ye 2017 (hinge); Arjovsky et al. 2017 (WGAN). Huang et al. 2024 (R3GAN)
train with ``rsgan`` and the penalties R1 and R2.
"""

import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from lit_modules.parts.distributed import global_batch

Loss = Callable[[Tensor, Tensor], Tensor]


def log_sigmoid(t: Tensor) -> Tensor:
    """h(t) = -log sigma(t), the usual choice, elementwise."""
    return softplus(-t)


def linear(t: Tensor) -> Tensor:
    """h(t) = -t, elementwise; as the generator's loss its optimal value is KL(p||q) + KL(q||p)."""
    return -t


def saturating(t: Tensor) -> Tensor:
    """h(t) = log(1 - sigma(t)), elementwise: the minimax form, whose gradient vanishes for bad fakes."""
    return -softplus(t)


def sgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E log sigma(T_r) - E log(1 - sigma(T_f)); 2 log 2 = 1.3863 at equilibrium."""
    return softplus(-real).mean() + softplus(fake).mean()


def sgan_generator(real: Tensor, fake: Tensor, h: Callable[[Tensor], Tensor] = log_sigmoid) -> Tensor:
    """E h(T_f)."""
    return h(fake).mean()


def _differences(real: Tensor, fake: Tensor, pairing: str) -> Tensor:
    """T_r - T_f of sample i with sample i, shape (n,), or of every real with every fake, (n, ranks * n)."""
    return real - fake if pairing == "same" else real[:, None] - global_batch(fake)[None, :]


def rsgan_discriminator(real: Tensor, fake: Tensor, pairing: str = "same") -> Tensor:
    """-E log sigma(T_r - T_f); log 2 = 0.6931 at equilibrium, and log 2 - JS(p x q, q x p) at the optimum."""
    return softplus(-_differences(real, fake, pairing)).mean()


def rsgan_generator(
    real: Tensor, fake: Tensor, h: Callable[[Tensor], Tensor] = log_sigmoid, pairing: str = "same"
) -> Tensor:
    """E h(T_f - T_r)."""
    return h(-_differences(real, fake, pairing)).mean()


def _relative_to_average(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """(T_r - E T_f, T_f - E T_r), each (n,), with means over the global batch."""
    return real - global_batch(fake).mean(), fake - global_batch(real).mean()


def rasgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E log sigma(T_r - E T_f) - E log(1 - sigma(T_f - E T_r))."""
    return sgan_discriminator(*_relative_to_average(real, fake))


def rasgan_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-E log sigma(T_f - E T_r) - E log(1 - sigma(T_r - E T_f)): D's with swapped sides."""
    return rasgan_discriminator(fake, real)


def lsgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E (T_r - 1)^2 + E T_f^2."""
    return (real - 1).square().mean() + fake.square().mean()


def lsgan_generator(real: Tensor, fake: Tensor) -> Tensor:
    """E (T_f - 1)^2."""
    return (fake - 1).square().mean()


def ralsgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E (T_r - E T_f - 1)^2 + E (T_f - E T_r + 1)^2."""
    real, fake = _relative_to_average(real, fake)
    return (real - 1).square().mean() + (fake + 1).square().mean()


def ralsgan_generator(real: Tensor, fake: Tensor) -> Tensor:
    """E (T_f - E T_r - 1)^2 + E (T_r - E T_f + 1)^2."""
    return ralsgan_discriminator(fake, real)


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - T_r) + E max(0, 1 + T_f)."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def hinge_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-E T_f."""
    return -fake.mean()


def rahinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - (T_r - E T_f)) + E max(0, 1 + (T_f - E T_r))."""
    return hinge_discriminator(*_relative_to_average(real, fake))


def rahinge_generator(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - (T_f - E T_r)) + E max(0, 1 + (T_r - E T_f))."""
    return rahinge_discriminator(fake, real)


def wgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E T_f - E T_r."""
    return fake.mean() - real.mean()


def wgan_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-E T_f."""
    return -fake.mean()


LOSSES: dict[str, tuple[Loss, Loss]] = {
    "sgan": (sgan_discriminator, sgan_generator),
    "rsgan": (rsgan_discriminator, rsgan_generator),
    "rasgan": (rasgan_discriminator, rasgan_generator),
    "lsgan": (lsgan_discriminator, lsgan_generator),
    "ralsgan": (ralsgan_discriminator, ralsgan_generator),
    "hinge": (hinge_discriminator, hinge_generator),
    "rahinge": (rahinge_discriminator, rahinge_generator),
    "wgan": (wgan_discriminator, wgan_generator),
}
H: dict[str, Callable[[Tensor], Tensor]] = {
    "log_sigmoid": log_sigmoid,
    "linear": linear,
    "saturating": saturating,
}
PAIRINGS = ("same", "all")


@dataclass(frozen=True)
class AdversarialLoss:
    """The two players' losses; scores of any shape are flattened to (n,) and taken to at least float32."""

    name: str
    _discriminator: Loss
    _generator: Loss

    @property
    def generator_uses_real(self) -> bool:
        """Whether the generator's loss depends on the scores of the real samples."""
        return self.name.startswith("r")

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss (scalar) of scores (n,), (n, 1), ...

        Raises:
            ValueError: different numbers of real and fake scores.
        """
        return self._discriminator(*_flat_pair(real, fake))

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """The generator's loss (scalar); ``real`` may be None unless :attr:`generator_uses_real`.

        Raises:
            ValueError: different numbers of real and fake scores, or none where real ones are needed.
        """
        if real is None:
            if self.generator_uses_real:
                raise ValueError(f"the generator's loss of {self.name!r} needs the scores of real samples")
            real = fake
        return self._generator(*_flat_pair(real, fake))


def adversarial_loss(name: str, *, h: str = "log_sigmoid", pairing: str = "same") -> AdversarialLoss:
    """The pair of losses called ``name``.

    Args:
        name: one of ``LOSSES``.
        h: the generator's h(t) for sgan and rsgan, one of ``H``.
        pairing: for rsgan, "same" (sample i with sample i) or "all" (every real with every fake of the global
            batch: n^2 pairs, a little less variance).

    Raises:
        ValueError: unknown name, with the nearest right one; h or pairing with a loss that has none.
    """
    check_name("loss", name, LOSSES)
    check_name("h", h, H)
    check_name("pairing", pairing, PAIRINGS)
    if h != "log_sigmoid" and name not in ("sgan", "rsgan"):
        raise ValueError(f"h={h!r} applies to the losses sgan and rsgan only, not to {name!r}")
    if pairing != "same" and name != "rsgan":
        raise ValueError(f"pairing={pairing!r} applies to the loss rsgan only, not to {name!r}")
    discriminator, generator = LOSSES[name]
    if name == "sgan":
        generator = partial(sgan_generator, h=H[h])
    elif name == "rsgan":
        discriminator = partial(rsgan_discriminator, pairing=pairing)
        generator = partial(rsgan_generator, h=H[h], pairing=pairing)
    return AdversarialLoss(name, discriminator, generator)


def check_name(argument: str, value: str, known: Collection[str]) -> None:
    """Raise a ValueError that names ``argument``, the nearest right value and all right values."""
    if value in known:
        return
    near = difflib.get_close_matches(str(value), list(known), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {argument} {value!r}.{hint} Known: {', '.join(known)}")


def _flat_pair(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    if real.numel() != fake.numel():
        raise ValueError(
            f"the batch holds {real.numel()} real and {fake.numel()} fake scores"
            f" (shapes {tuple(real.shape)} and {tuple(fake.shape)}): the numbers must be equal"
        )
    return _flat(real), _flat(fake)


def _flat(scores: Tensor) -> Tensor:
    # A mean over half-precision scores loses digits, and exp overflows in float16 above 11.
    dtype = torch.promote_types(scores.dtype, torch.float32)
    return scores.reshape(-1).to(dtype)
