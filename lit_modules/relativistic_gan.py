"""Article 1: RSGAN, the "Turing test" in adversarial training (Scientific Spaces, 2018-10-22).

Let T(x) be the discriminator's raw score, x_r a real sample, x_f = G(z) a fake and sigma the sigmoid. The
standard GAN judges each sample by itself, RSGAN judges pairs: mix a real and a fake, which one is real?

            discriminator minimizes                                  generator minimizes
    SGAN    -E log sigma(T(x_r)) - E log(1 - sigma(T(x_f)))          E h(T(x_f))
    RSGAN   -E log sigma(T(x_r) - T(x_f))                            E h(T(x_f) - T(x_r))

with h(t) = -log sigma(t), or any h for which t -> h(log t) is convex. With p the density of the data and q the
generator's, the optimal discriminator is T*(x) = log p(x)/q(x) for SGAN, and the same up to a constant for RSGAN.
So SGAN's generator minimizes a divergence between p and q, RSGAN's one between p(x_r) q(x_f) and p(x_f)
q(x_r), and log 2 - L_D = JS(p x q, q x p) at RSGAN's optimal discriminator.

Run it:     python run.py fit --config configs/relativistic_gan.yaml
Expect:     train/d_loss near log 2 = 0.6931 when real and fake can't be told apart (SGAN: 2 log 2 = 1.3863). A
            value well below says that the discriminator is ahead, which is usual. Scores (train/d_real,
            train/d_fake) of a relativistic discriminator have no absolute zero: read their difference.

Beyond the article: the other relativistic losses and the penalties in ``parts`` (RSGAN + R1 + R2 is R3GAN's
objective).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from lit_modules.parts import manual, noise, optimizers
from lit_modules.parts.adversarial import adversarial_loss, check_name
from lit_modules.parts.distributed import broadcast_buffers, gather_rows, own_rows
from lit_modules.parts.gan import GANModule
from lit_modules.parts.networks import cached_weights
from lit_modules.parts.penalties import Penalties


class RelativisticGAN(GANModule):
    """A GAN trained by alternating updates with any of the losses, penalties and networks below.

    One training step (``trainer.global_step`` + 1) takes ``discriminator_steps * accumulate_grad_batches``
    batches: each update of D sees fresh real samples, then G makes ``generator_steps`` updates with fresh
    noise. Batches are gathered until a step has all of its own; an epoch's last step makes do with what is
    left.

    Args:
        image_size: side of the images in pixels, a multiple of 4 (network "convolutional").
        channels: 1 for grey, 3 for color (network "convolutional").
        dimensions: of the points (network "points").
        latent_dim: dimensions of the noise z.
        network: "convolutional" for images (B, C, S, S), or "points" for points (B, D).
        width: channels of the largest maps, or hidden units; 24 for images and 128 for points by
            default.
        loss: sgan, rsgan, rasgan, lsgan, ralsgan, hinge, rahinge or wgan.
        h: the generator's h(t) for sgan and rsgan: log_sigmoid, linear or saturating.
        pairing: for rsgan: "same" (i with i), or "all" n^2 pairs.
        spectral_norm: normalize every kernel of the discriminator by its largest singular value.
        power_iterations: of spectral_norm, at each update (the article's author takes 5).
        gp_weight: strength of WGAN-GP's penalty (10 in the paper).
        r1_weight: strength gamma of R1, the penalty gamma/2 E||dT/dx||^2 on real samples.
        r2_weight: strength gamma of R2, the same on fakes.
        penalty_interval: apply penalties at every n-th update of D only, n times as strong.
        optimizer: class path of the optimizer of both networks.
        optimizer_args: its further arguments.
        discriminator_lr: learning rate of D.
        generator_lr: learning rate of G.
        betas: of Adam and its kin; other optimizers don't get it.
        lr_schedule: "constant", or "linear" or "cosine" falling to 0 at the run's end.
        warmup_steps: steps in which the learning rates rise linearly first.
        discriminator_steps: updates of D in a step.
        generator_steps: updates of G in a step (the article's author takes 2 to 1 of D).
        gradient_clip_val: clip each network's gradients at this norm (or value); null for no clipping.
        gradient_clip_algorithm: "norm" or "value".
        accumulate_grad_batches: batches averaged in each update.
        compile: torch.compile both networks (penalties and sampling run uncompiled).
        channels_last: keep images and kernels in channels-last memory order.
        generator: a network of your own, (B, latent_dim) to samples.
        discriminator: a network of your own, samples to B raw scores. Networks passed from Python are not
            saved as hyper-parameters: pass them to ``load_from_checkpoint`` again.

    Raises:
        ValueError: an unknown name or an impossible value, naming it and the nearest right one.
    """

    # Of its checkpoints, what `load_from_checkpoint` and an export can do without.
    only_to_resume = ("gathered_batches",)

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        dimensions: int = 2,
        latent_dim: int = 100,
        network: str = "convolutional",
        width: int | None = None,
        loss: str = "rsgan",
        h: str = "log_sigmoid",
        pairing: str = "same",
        spectral_norm: bool = False,
        power_iterations: int = 1,
        gp_weight: float = 0.0,
        r1_weight: float = 0.0,
        r2_weight: float = 0.0,
        penalty_interval: int = 1,
        optimizer: str = "torch.optim.Adam",
        optimizer_args: dict[str, Any] | None = None,
        discriminator_lr: float = 2e-4,
        generator_lr: float = 2e-4,
        betas: Sequence[float] = (0.5, 0.999),
        lr_schedule: str = "constant",
        warmup_steps: int = 0,
        discriminator_steps: int = 1,
        generator_steps: int = 1,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str = "norm",
        accumulate_grad_batches: int = 1,
        compile: bool = False,
        channels_last: bool = False,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__(latent_dim)
        betas = [float(beta) for beta in betas]
        self.keep_hyperparameters("generator", "discriminator")
        self.automatic_optimization = False
        self.loss = adversarial_loss(loss, h=h, pairing=pairing)
        self.penalties = Penalties(gp_weight, r1_weight, r2_weight, penalty_interval)
        self._check_arguments()
        optimizers.refuse_closures(optimizer)
        self._optimizer_args = optimizers.optimizer_arguments(optimizer, betas, optimizer_args or {})
        self.set_networks(generator, discriminator)
        self._window: list[Tensor] = []

    def _check_arguments(self) -> None:
        self.check_arguments("discriminator_steps", "generator_steps", "accumulate_grad_batches")
        clip = self.hparams["gradient_clip_val"]
        if clip is not None and clip <= 0:
            raise ValueError(f"gradient_clip_val={clip} must be positive, or null for no clipping")
        check_name("gradient_clip_algorithm", self.hparams["gradient_clip_algorithm"], ("norm", "value"))

    # ---- One training step ----

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Gather batches (samples (B, ...), labels); at the last one of a step update D, then G."""
        self._window.append(self.real_samples(batch))
        if len(self._window) < self.batches_per_step and not self.trainer.is_last_batch:
            manual.discount_batch(self.trainer)
            return
        window, self._window = [self.to_memory_format(x.to(self.device)) for x in self._window], []
        k = self.hparams["accumulate_grad_batches"]
        groups = [window[i : i + k] for i in range(0, len(window), k)]
        logged = [self._update_discriminator(i, group) for i, group in enumerate(groups)]
        last = self.hparams["generator_steps"] - 1
        logged += [self._update_generator(i, groups[-1], counts=i == last) for i in range(last + 1)]
        manual.step_schedulers(self)
        broadcast_buffers(self)
        self.log_means(logged)

    @property
    def batches_per_step(self) -> int:
        """Loader batches that a full training step takes."""
        return self.hparams["discriminator_steps"] * self.hparams["accumulate_grad_batches"]

    def _update_discriminator(self, i: int, group: list[Tensor]) -> dict[str, Tensor]:
        """D's update number ``i`` of this step: -E log sigma(T(x_r) - T(x_f)), or as ``loss`` says."""
        d_optimizer, _ = self._optimizers()
        sizes = [len(x) for x in group]
        step, device = self.trainer.global_step, self.device
        z = noise.draw(sizes, (self.latent_dim,), step=step, stream=f"d{i}", device=device)
        epsilon = noise.draw(sizes, (), step=step, stream=f"gp{i}", device=device, distribution=torch.rand)
        update = step * self.hparams["discriminator_steps"] + i
        logged: dict[str, Tensor] = {}

        def loss_of(micro: tuple[Tensor, Tensor, Tensor]) -> Tensor:
            x_r, z, epsilon = micro
            with torch.no_grad():
                x_f = self.fakes(z, x_r)
            with cached_weights(self.discriminator):
                t_r, t_f = self.discriminator(x_r), self.discriminator(x_f)
                loss = d_loss = self.loss.discriminator(t_r, t_f)
                if self.penalties.due(update):
                    penalty = self.penalties(self.discriminator.forward, x_r, x_f, epsilon)
                    loss = d_loss + self.penalties.interval * penalty
                    _add(logged, "train/penalty", penalty, len(x_r) / sum(sizes))
            for name, value in ("d_loss", d_loss), ("d_real", t_r), ("d_fake", t_f):
                _add(logged, f"train/{name}", value.float().mean(), len(x_r) / sum(sizes))
            return loss

        micro_batches = list(zip(group, z, epsilon, strict=True))
        manual.update(self, d_optimizer, micro_batches, sizes, loss_of, counts=False)
        return logged

    def _update_generator(self, i: int, group: list[Tensor], counts: bool) -> dict[str, Tensor]:
        """G's update number ``i`` of this step: E h(T(x_f) - T(x_r)), or as ``loss`` says."""
        _, g_optimizer = self._optimizers()
        sizes = [len(x) for x in group]
        step = self.trainer.global_step
        z = noise.draw(sizes, (self.latent_dim,), step=step, stream=f"g{i}", device=self.device)
        logged: dict[str, Tensor] = {}

        def loss_of(micro: tuple[Tensor, Tensor]) -> Tensor:
            x_r, z = micro
            x_f = self.fakes(z, x_r)
            with cached_weights(self.discriminator):
                t_f = self.discriminator(x_f)
                t_r = self.discriminator(x_r) if self.loss.generator_uses_real else None
                loss = self.loss.generator(t_r, t_f)
            _add(logged, "train/g_loss", loss, len(x_r) / sum(sizes))
            return loss

        # Toggled: D's parameters get no gradient here.
        with self.toggled_optimizer(g_optimizer):
            micro_batches = list(zip(group, z, strict=True))
            manual.update(self, g_optimizer, micro_batches, sizes, loss_of, counts=counts)
        return logged

    # ---- Around the step ----

    def setup(self, stage: str) -> None:
        """Refuse strategies that fail later; compile the networks if asked to.

        Raises:
            ValueError: a distributed strategy under which alternating updates fail.
        """
        if stage == "fit":
            manual.check_strategy(self.trainer)
            self._window = []
        super().setup(stage)

    def configure_optimizers(self) -> Any:
        """Optimizers (and schedulers, one step of each a training step) of D and of G, in this order."""
        hp = self.hparams
        built = [
            optimizers.build_optimizer({name: network}, hp["optimizer"], self._optimizer_args)
            for name, network in self.networks_and_rates().items()
        ]
        if hp["lr_schedule"] == "constant" and not hp["warmup_steps"]:
            return built
        total = manual.total_steps(self.trainer, self.batches_per_step)
        schedule = hp["lr_schedule"], hp["warmup_steps"], total
        return built, [optimizers.build_scheduler(optimizer, *schedule) for optimizer in built]

    def _optimizers(self) -> tuple[LightningOptimizer, LightningOptimizer]:
        d_optimizer, g_optimizer = cast(list[LightningOptimizer], self.optimizers())
        return d_optimizer, g_optimizer

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip here: only now has the fp16 loss scale been taken out of the gradients."""
        if self.hparams["gradient_clip_val"] is not None:
            value, algorithm = self.hparams["gradient_clip_val"], self.hparams["gradient_clip_algorithm"]
            self.clip_gradients(optimizer, value, algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the batches that wait for the rest of their step: the loader won't bring them again."""
        if self._window:
            checkpoint["gathered_batches"] = [gather_rows(x).cpu() for x in self._window]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the waiting batches up again, each rank its own part of them."""
        self._window = [own_rows(x) for x in checkpoint.get("gathered_batches", [])]


def _add(logged: dict[str, Tensor], name: str, value: Tensor, weight: float) -> None:
    logged[name] = logged.get(name, 0) + value.detach() * weight
