"""Article 5: stopping the gradient, a GAN from one single loss (Scientific Spaces, 2019-02-22).

Alternating updates of the discriminator D and the generator G move the data twice and go forward and backward
twice. With sg the stop-gradient, one loss trains both at once (hinge, D high on real samples, x_f = G(z)):

    L = E max(0, 1 - D(x_r)) + E max(0, 1 + D(sg x_f)) + lambda E [D(sg x_f) - D(x_f)]

The last bracket is 0, but its gradient is not: D's cancels in it, G's is lambda times that of -E D(x_f). For any
pair of losses the bracket is L_G(D(x_f)) - L_G(D(sg x_f)). So one optimizer and one backward pass do, and all of
Lightning's automatic optimization works. The price is a third pass through D, and that both players move at the
same time: on the game xy, whose players circle around 0, simultaneous steps spiral outwards where alternating ones
stay. R1 or averaged weights settle them.

Beyond the article: the mode "one_pass" gets both gradients exactly from one pass through D and one backward pass
(``parts.single_loss``), in two thirds of the arithmetic. It needs a D that scores each sample by itself, without
batch norm; that is tested before the first step.

Run it:     python run.py fit --config configs/single_loss_gan.yaml
Expect:     the loss is train/d_loss in value, whatever G does: read train/g_loss beside it. With hinge, train/d_loss
            between 1 and 2 means a fair game, near 0 that D is far ahead.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from lit_modules.parts import noise, optimizers
from lit_modules.parts.adversarial import adversarial_loss, check_name
from lit_modules.parts.distributed import broadcast_buffers, rank_and_world_size
from lit_modules.parts.gan import GANModule
from lit_modules.parts.networks import cached_weights
from lit_modules.parts.penalties import Penalties
from lit_modules.parts.probing import mixing_layer, unrepeatable_layer
from lit_modules.parts.single_loss import FORMS

CLIPPING = ("network", "global")


class SingleLossGAN(GANModule):
    """A GAN whose two networks are updated at once from one loss, by Lightning's automatic optimization.

    Accumulation, gradient clipping, precision and strategies are the Trainer's settings; plain ``ddp`` works. Per
    step D and G get one update each.

    Args:
        image_size: side of the images in pixels, a multiple of 4 (network "convolutional").
        channels: 1 for grey, 3 for color (network "convolutional").
        dimensions: of the points (network "points").
        latent_dim: dimensions of the noise z.
        network: "convolutional" for images (B, C, S, S), or "points" for points (B, D).
        width: channels of the largest maps, or hidden units; 24 for images and 128 for points by
            default.
        mode: "one_pass", the fastest, for a D that scores each sample by itself; "article" for any D that gives
            the same samples the same scores twice; "functional" for any D (see ``parts.single_loss``).
        loss: sgan, rsgan, rasgan, lsgan, ralsgan, hinge, rahinge or wgan.
        h: the generator's h(t) for sgan and rsgan: log_sigmoid, linear or saturating.
        pairing: for rsgan: "same" (i with i), or "all" n^2 pairs.
        generator_weight: the article's lambda, the weight of G's gradients. With SGD it multiplies G's learning
            rate; with Adam and its kin it does nothing, for which there is a warning: set generator_lr.
        spectral_norm: normalize every kernel of the discriminator by its largest singular value.
        power_iterations: of spectral_norm, at each step.
        gp_weight: strength of WGAN-GP's penalty (10 in the paper).
        r1_weight: strength gamma of R1, the penalty gamma/2 E||dD/dx||^2 on real samples.
        r2_weight: strength gamma of R2, the same on fakes.
        penalty_interval: apply penalties at every n-th step only, n times as strong.
        optimizer: class path of the optimizer.
        optimizer_args: its further arguments.
        discriminator_lr: learning rate of D, the optimizer's first parameter group.
        generator_lr: learning rate of G, the second one.
        betas: of Adam and its kin; other optimizers don't get it.
        lr_schedule: "constant", or "linear" or "cosine" falling to 0 at the run's end.
        warmup_steps: steps in which the learning rates rise linearly first.
        gradient_clip_scope: what the Trainer's gradient_clip_val bounds if the algorithm is "norm": the norm of
            each "network" apart, or the "global" one, where a large gradient of one player shrinks the other's.
        compile: torch.compile both networks (penalties and sampling run uncompiled).
        channels_last: keep images and kernels in channels-last memory order.
        generator: a network of your own, (B, latent_dim) to samples.
        discriminator: a network of your own, samples to B raw scores. Networks passed from Python are not
            saved as hyper-parameters: pass them to ``load_from_checkpoint`` again.

    Raises:
        ValueError: an unknown name or an impossible value, naming it and the nearest right one; when training
            starts, a discriminator that the mode can't be exact for, naming its layer.
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        dimensions: int = 2,
        latent_dim: int = 100,
        network: str = "convolutional",
        width: int | None = None,
        mode: str = "one_pass",
        loss: str = "hinge",
        h: str = "log_sigmoid",
        pairing: str = "same",
        generator_weight: float = 1.0,
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
        gradient_clip_scope: str = "network",
        compile: bool = False,
        channels_last: bool = False,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__(latent_dim)
        betas = [float(beta) for beta in betas]
        self.keep_hyperparameters("generator", "discriminator")
        self.loss = adversarial_loss(loss, h=h, pairing=pairing)
        self.penalties = Penalties(gp_weight, r1_weight, r2_weight, penalty_interval)
        self._check_arguments()
        self._optimizer_args = optimizers.optimizer_arguments(optimizer, betas, optimizer_args or {})
        self.set_networks(generator, discriminator)
        self._discriminator_is_checked = False
        self._logged: list[dict[str, Tensor]] = []

    def _check_arguments(self) -> None:
        self.check_arguments()
        check_name("mode", self.hparams["mode"], FORMS)
        check_name("gradient_clip_scope", self.hparams["gradient_clip_scope"], CLIPPING)
        if self.hparams["generator_weight"] <= 0:
            raise ValueError(f"generator_weight={self.hparams['generator_weight']} must be positive")

    # ---- One training step ----

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The single loss (scalar) of a batch: samples (B, ...), labels."""
        x_r = self.to_memory_format(self.real_samples(batch))
        z, epsilon = self._draw(len(x_r), batch_idx)
        x_f = self.fakes(z, x_r)
        players = self.loss.discriminator, self.loss.generator
        form = FORMS[self.hparams["mode"]]
        step = form(self.discriminator, x_r, x_f, *players, generator_weight=self.hparams["generator_weight"])
        logged = {"train/d_loss": step.d_loss, "train/g_loss": step.g_loss}
        logged |= {"train/d_real": step.real_scores.float().mean(), "train/d_fake": step.fake_scores.float().mean()}
        loss = step.loss
        if self.penalties.due(self.trainer.global_step):
            # The weights that the scores came from: another power iteration would change them.
            with cached_weights(self.discriminator, iterate=False):
                penalty = self.penalties(self.discriminator.forward, x_r, x_f, epsilon)
            loss = loss + self.penalties.interval * penalty
            logged["train/penalty"] = penalty.detach()
        self._log(logged, batch_idx)
        return loss

    def _draw(self, size: int, batch_idx: int) -> tuple[Tensor, Tensor]:
        """z (B, L) and epsilon (B,), those that one batch as large as all accumulated ones would get here."""
        windows = self.trainer.accumulate_grad_batches
        sizes, step = [size] * windows, self.trainer.global_step
        # An epoch's last batch may be smaller: its part of a smaller draw would repeat numbers of this step.
        rows = rank_and_world_size()[1] * size * windows
        z = noise.draw(sizes, (self.latent_dim,), step=step, stream=f"z{rows}", device=self.device)
        epsilon = noise.draw(sizes, (), step=step, stream=f"gp{rows}", device=self.device, distribution=torch.rand)
        return z[batch_idx % windows], epsilon[batch_idx % windows]

    def _log(self, quantities: dict[str, Tensor], batch_idx: int) -> None:
        """Log the means over a step's accumulated batches at the last one."""
        self._logged.append(quantities)
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0 or self.trainer.is_last_batch:
            logged, self._logged = self._logged, []
            self.log_means(logged)

    # ---- Around the step ----

    def on_fit_start(self) -> None:
        """Train in training mode, with nothing left over from an earlier training."""
        super().on_fit_start()
        self._discriminator_is_checked, self._logged = False, []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Before the first step, try out whether the mode's gradients are exact for this discriminator.

        Raises:
            ValueError: they are not, naming the layer and the modes that are.
        """
        if self._discriminator_is_checked:
            return
        self._discriminator_is_checked = True
        samples, mode = self.real_samples(batch), self.hparams["mode"]
        if mode == "one_pass" and (layer := mixing_layer(self.discriminator, samples)):
            raise ValueError(
                f"mode='one_pass' needs a discriminator that scores each sample by itself, but in {layer} the other"
                " samples of the batch play a part, and the generator would get wrong gradients: use mode='article'"
                " or 'functional', or a normalization within the sample"
            )
        if mode == "article" and (layer := unrepeatable_layer(self.discriminator, samples)):
            raise ValueError(
                f"mode='article' needs a discriminator that gives the same samples the same scores twice, but"
                f" {layer} changes them, and the generator's loss would leak into the discriminator: use"
                " mode='functional', or 'one_pass' if no layer mixes samples"
            )

    def on_after_backward(self) -> None:
        """Make the ranks' batch statistics equal now: DDP would at the next step, after averaging and evaluation."""
        broadcast_buffers(self)

    def configure_optimizers(self) -> Any:
        """One optimizer with two parameter groups, D and G, and a scheduler that steps with it."""
        hp = self.hparams
        if hp["generator_weight"] != 1 and optimizers.ignores_gradient_scale(hp["optimizer"], self._optimizer_args):
            rank_zero_warn(
                f"generator_weight={hp['generator_weight']} does nothing with {hp['optimizer']}, which moves"
                " parameters equally far whatever the scale of their gradients: set generator_lr instead"
            )
        return self.optimizer_over(self.networks_and_rates(), self._optimizer_args)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the Trainer asks, each network's norm apart unless ``gradient_clip_scope`` is "global".

        Raises:
            ValueError: a fused optimizer under float16, whose gradients still carry the loss scale here.
        """
        apart = self.hparams["gradient_clip_scope"] == "network" and gradient_clip_algorithm != "value"
        if not apart or not gradient_clip_val:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            raise ValueError("a fused optimizer can't be clipped under 16-mixed: set optimizer_args.fused=false")
        for network in (self.discriminator, self.generator):
            clip_grad_norm_(network.parameters(), gradient_clip_val)
