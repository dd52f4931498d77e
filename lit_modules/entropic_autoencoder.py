"""Article 7: EAE, autoencoder + batch norm + maximum entropy = generative model (Scientific Spaces, 2020-04-20).

Of all densities with mean 0 and variance 1 the normal one has the largest entropy. So normalize an autoencoder's
codes by batch norm N without scale and shift, and maximize their entropy H:

    L = E |x - D(N(E(x)))|^2 - lambda H(Z),        and generate with D(z), z ~ N(0, I)

H is estimated from distances to nearest neighbors in the batch (``parts.entropy``). There is no noise in training,
and so no posterior collapse. The squared error is summed over an image's pixels and H is in nats: only with both fixed
does lambda mean anything.

The baselines are the same module with another ``regularizer``, so that only what differs differs: a plain
autoencoder (with ``code_norm``, the article's batch norm alone), a VAE and a WAE-MMD.

Run it:     python run.py fit --config configs/entropic_autoencoder.yaml
Expect:     train/entropy rising towards that of N(0, I) as the estimator sees it: for 16 dimensions 22.7 + 0.5 or so

Source: the article; Ghose, Rashwan and Poupart, "Batch norm with entropic regularization turns deterministic
autoencoders into generative models", UAI 2020.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lit_modules.parts import noise, optimizers
from lit_modules.parts.adversarial import check_name
from lit_modules.parts.base import BaseModule, batch_images
from lit_modules.parts.coders import default_coders
from lit_modules.parts.codes import CodeNorm, kl_to_normal, mmd_to_normal
from lit_modules.parts.distributed import broadcast_buffers
from lit_modules.parts.entropy import knn_entropy
from lit_modules.parts.portable import FirstHalf, Portable, images_like, portable_chain
from lit_modules.parts.samplers import CodeSampler

REGULARIZERS = ("entropy", "none", "kl", "mmd")


class EntropicAutoencoder(BaseModule):
    """An autoencoder of images whose codes are made to look like N(0, I).

    Args:
        image_size: side of the images in pixels, a multiple of 4.
        channels: 1 for grey, 3 for color.
        latent_dim: dimensions d of the code.
        network: "convolutional" or "dense".
        width: channels of the largest maps of convolutional networks.
        regularizer: "entropy" (EAE), "none" (autoencoder), "kl" (VAE), "mmd" (WAE-MMD).
        regularizer_weight: lambda; for VAE the beta of its KL divergence.
        regularizer_warmup_steps: steps in which lambda rises linearly from 0.
        nearest_k: which neighbor the entropy is estimated from.
        sampler_components: draw codes from a mixture of so many Gaussians (1: a single one) that is fitted to the
            training images' codes before each validation; 0 for N(0, I).
        code_norm: batch norm without scale and shift on the codes; by default for "entropy" alone.
        optimizer: class path of the optimizer.
        optimizer_args: its further arguments.
        learning_rate: of both networks.
        betas: of Adam and its kin; other optimizers don't get it.
        lr_schedule: "constant", or "linear" or "cosine" falling to 0 at the run's end.
        warmup_steps: steps in which the learning rate rises linearly first.
        channels_last: keep images and kernels in channels-last order, faster for convolutions on most machines.
        compile: torch.compile both networks.
        encoder: a network of your own, images (B, C, H, W) to (B, d), for "kl" to (B, 2 d): mean and log variance.
        decoder: a network of your own, codes (B, d) to images. Networks passed from Python are not saved as
            hyper-parameters: pass them to ``load_from_checkpoint`` again.

    Raises:
        ValueError: an unknown name or an impossible value, naming it and the nearest right one.
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        latent_dim: int = 16,
        network: str = "convolutional",
        width: int = 24,
        regularizer: str = "entropy",
        regularizer_weight: float = 1.0,
        regularizer_warmup_steps: int = 0,
        nearest_k: int = 1,
        sampler_components: int = 0,
        code_norm: bool | None = None,
        optimizer: str = "torch.optim.Adam",
        optimizer_args: dict[str, Any] | None = None,
        learning_rate: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        lr_schedule: str = "constant",
        warmup_steps: int = 0,
        channels_last: bool = False,
        compile: bool = False,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        betas = [float(beta) for beta in betas]
        self.keep_hyperparameters("encoder", "decoder")
        self._check_arguments()
        self._optimizer_args = optimizers.optimizer_arguments(optimizer, betas, optimizer_args or {})
        if encoder is None or decoder is None:
            outputs = 2 * latent_dim if regularizer == "kl" else latent_dim
            sizes = {"image_size": image_size, "channels": channels, "latent_dim": latent_dim, "width": width}
            default = default_coders(network, **sizes, outputs=outputs)
            encoder, decoder = encoder or default[0], decoder or default[1]
        self.encoder, self.decoder = encoder, decoder
        self.lay_out(encoder, decoder)
        normed = regularizer == "entropy" if code_norm is None else code_norm
        self.code_norm = CodeNorm(latent_dim) if normed else nn.Identity()
        self.sampler = CodeSampler(latent_dim, sampler_components) if sampler_components else None

    def _check_arguments(self) -> None:
        hp = self.hparams
        check_name("regularizer", hp["regularizer"], REGULARIZERS)
        check_name("lr_schedule", hp["lr_schedule"], optimizers.SCHEDULES)
        for name in ("latent_dim", "nearest_k"):
            if hp[name] < 1:
                raise ValueError(f"{name}={hp[name]} must be at least 1")
        for name in ("regularizer_weight", "regularizer_warmup_steps", "sampler_components", "warmup_steps"):
            if hp[name] < 0:
                raise ValueError(f"{name}={hp[name]} must not be negative")
        if hp["regularizer"] == "entropy" and hp["code_norm"] is False:
            raise ValueError("code_norm=False with regularizer='entropy': without it the entropy has no maximum")
        if hp["regularizer"] == "kl" and hp["code_norm"]:
            raise ValueError("code_norm=True with regularizer='kl': a VAE's codes are kept near N(0, I) by its KL term")

    # ---- One training step ----

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """|x - D(z)|^2 per image + lambda R(z) (scalar) of a batch: images (B, C, H, W), labels."""
        x = self.to_memory_format(self.images(batch))
        z, regularization = self._regularized_codes(x)
        reconstruction = self._squared_error(self.decoder(z), x).mean()
        loss = reconstruction + self._weight() * regularization
        logged = {"train/loss": loss, "train/reconstruction": reconstruction}
        kind = self.hparams["regularizer"]
        if kind != "none":
            logged[f"train/{kind}"] = -regularization if kind == "entropy" else regularization
        self.log_step(logged, in_bar=("reconstruction", kind))
        return loss

    def _regularized_codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, d) as the decoder gets them in training, and R (scalar), which is -H for the entropy."""
        kind, out = self.hparams["regularizer"], self.encoder(x)
        if kind == "kl":
            mean, log_var = (part.float() for part in out.chunk(2, dim=1))
            z = mean + (log_var / 2).exp() * self._noise(mean)
            return z.to(out.dtype), kl_to_normal(mean, log_var).mean()
        z = self.code_norm(out)
        if kind == "entropy":
            return z, -knn_entropy(z, self.hparams["nearest_k"])
        if kind == "mmd":
            return z, mmd_to_normal(z, self._noise(z))
        return z, z.new_zeros(())

    def _noise(self, like: Tensor) -> Tensor:
        """N(0, I) in the shape (B, d), a part of what one process with the whole batch would draw."""
        number = self.trainer.fit_loop.total_batch_idx
        (epsilon,) = noise.draw([len(like)], like.shape[1:], step=number, stream="codes", device=like.device)
        return epsilon.to(like.dtype)

    def _weight(self) -> float:
        steps = self.hparams["regularizer_warmup_steps"]
        share = min(1.0, (self.trainer.global_step + 1) / steps) if steps else 1.0
        return self.hparams["regularizer_weight"] * share

    @staticmethod
    def _squared_error(images: Tensor, x: Tensor) -> Tensor:
        """Summed over an image's pixels and channels: (B, C, H, W) to (B,), in float32 at least."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        if images.shape != x.shape:
            raise ValueError(f"the decoder makes {tuple(images.shape)}, the batch holds {tuple(x.shape)}")
        return (images.to(dtype) - x.to(dtype)).square().flatten(1).sum(dim=1)

    # ---- Codes and images, in evaluation mode ----

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to their reconstructions."""
        return self.decoder(self._codes(x))

    def _codes(self, x: Tensor) -> Tensor:
        out = self.encoder.forward(x)
        return out.chunk(2, dim=1)[0] if self.hparams["regularizer"] == "kl" else self.code_norm(out)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Codes (B, d), float32, of images (B, C, H, W), by kept statistics; a VAE's are the means."""
        return self._evaluated(lambda: self._codes(self.as_input(x)))

    @torch.no_grad()
    def draw_codes(self, x: Tensor) -> Tensor:
        """Codes (B, d), float32, as the decoder is trained on them: a VAE's with noise, others as :meth:`encode`."""
        return self._drawn(self._encoder_outputs(x))

    def _encoder_outputs(self, x: Tensor) -> Tensor:
        return self._evaluated(lambda: self.encoder.forward(self.as_input(x)))

    def _drawn(self, out: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Codes (B, d) from what the encoder gives, a VAE's noise being drawn on the CPU."""
        if self.hparams["regularizer"] != "kl":
            return self._evaluated(lambda: self.code_norm(out))
        mean, log_var = out.chunk(2, dim=1)
        return mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=generator).to(mean)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Images (n, C, H, W), float32, of codes (n, d)."""
        return self._evaluated(lambda: self.decoder.forward(self.as_input(z)))

    def reconstruct(self, x: Tensor) -> Tensor:
        """What becomes of images (B, C, H, W) on the way through the code."""
        return self.decode(self.encode(x))

    def latents(self, n: int) -> Tensor:
        """``n`` codes (n, d) from N(0, I), or from the fitted sampler, drawn from torch's random state."""
        if self.sampler is not None:
            return self.sampler(n).float()
        return torch.randn(n, self.hparams["latent_dim"], device=self.device)

    def sample(self, n: int) -> Tensor:
        """``n`` new images (n, C, H, W), decoded from :meth:`latents`."""
        return self.decode(self.latents(n))

    def portable_networks(self) -> dict[str, Portable]:
        """The encoder, images (B, C, H, W) to codes (B, d) as :meth:`encode` gives them, and the decoder back."""
        codes = FirstHalf() if self.hparams["regularizer"] == "kl" else self.code_norm
        encoder = nn.Sequential(self.encoder, codes)
        return portable_chain(images_like(self.hparams), encoder=encoder, decoder=self.decoder)

    @torch.no_grad()
    def fit_codes(self, batches: Iterable[Any]) -> None:
        """Make sampling fit the codes of these batches (images, ...), which should be the training images.

        The code norm takes their mean and variance in place of running averages, and the sampler is fitted to
        their normalized codes (a VAE's with noise, the same at each call). In a distributed run every rank calls
        it with its share of the images; the sampler is rank 0's.

        Raises:
            ValueError: neither is there, or the batches hold fewer images than the sampler has components.
        """
        if not self.fits_codes:
            raise ValueError("with code_norm=False and sampler_components=0 there is nothing to fit")
        outs = torch.cat([self._encoder_outputs(self.images(batch)) for batch in batches])
        if isinstance(self.code_norm, CodeNorm):
            self.code_norm.take_statistics(outs)
        if self.sampler is not None:
            self.sampler.fit(self._drawn(outs, noise.keyed_generator(0, "fit_codes")))
            broadcast_buffers(self.sampler)

    @property
    def fits_codes(self) -> bool:
        """Whether there is something that :meth:`fit_codes` can fit."""
        return self.sampler is not None or isinstance(self.code_norm, CodeNorm)

    def _evaluated(self, compute: Any) -> Tensor:
        modes = [(part, part.training) for part in self.modules()]
        self.eval()
        try:
            return compute().float()
        finally:
            for part, training in modes:
                part.training = training

    # ---- Around the step ----

    def images(self, batch: Any) -> Tensor:
        """The images (B, C, H, W) of a batch that is (images, ...) or images.

        Raises:
            ValueError: images of another shape than the encoder takes, naming the arguments to set.
        """
        return batch_images(batch, getattr(self.encoder, "input_shape", None))

    def on_validation_start(self) -> None:
        """Fit the statistics of codes to the training images, where the datamodule hands them out."""
        trainer = self.trainer
        reference = getattr(trainer.datamodule, "reference_dataloader", None)  # type: ignore[attr-defined]
        if self.fits_codes and reference is not None and not trainer.sanity_checking:
            # Runs the datamodule's transfer hooks, such as a normalization on the device.
            self.fit_codes(trainer.strategy.batch_to_device(batch) for batch in reference())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log val/reconstruction, the squared error per held-out image."""
        self._log_reconstruction("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log test/reconstruction."""
        self._log_reconstruction("test", batch)

    def _log_reconstruction(self, split: str, batch: Any) -> None:
        x = self.images(batch)
        error = self._squared_error(self.reconstruct(x), x).mean()
        self.log(f"{split}/reconstruction", error, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(x))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The codes (B, d) of a batch."""
        return self.encode(self.images(batch))

    def setup(self, stage: str) -> None:
        """Compile the networks if asked to."""
        self.compile_if_asked(self.encoder, self.decoder)

    def on_after_backward(self) -> None:
        """Make the ranks' batch statistics equal now: DDP would at the next step, after averaging and evaluation."""
        broadcast_buffers(self)

    def configure_optimizers(self) -> Any:
        """One optimizer over both networks, and a scheduler that steps with it."""
        return self.optimizer_over({"autoencoder": (self, self.hparams["learning_rate"])}, self._optimizer_args)
