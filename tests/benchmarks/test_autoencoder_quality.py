"""Judging autoencoders: of known quality, by every measure."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.autoencoder_quality import QUALITIES, Autoencoder, Judge, Split, evaluate, load_split, midpoints


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_split("embedded", 1000, 0)


def test_the_split_is_what_the_datamodule_trains_on(tmp_path: Path) -> None:
    pixels = np.arange(30, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
    np.savez(tmp_path / "numbered.npz", images=pixels)
    one, other = (load_split(str(tmp_path / "numbered.npz"), 10, seed) for seed in (0, 1))
    assert (len(one.training), len(one.held_out)) == (20, 10)
    numbers = [((part[:, 0, 0, 0] + 1) * 127.5).round().int().tolist() for part in (one.training, one.held_out)]
    assert sorted(numbers[0] + numbers[1]) == list(range(30))
    assert not torch.equal(one.held_out, other.held_out)


def _perfect() -> Autoencoder:
    """Pixels are the codes."""
    return Autoencoder(lambda x: x.flatten(1), lambda z: z.view(-1, 1, 28, 28), lambda x: x.flatten(1))


def test_a_judge_knows_real_images_from_others(digits: Split) -> None:
    judge = Judge(digits.held_out, 500, 0)
    assert judge.fid(digits.held_out) == pytest.approx(0, abs=1e-6)
    # Other digits of the same kind, noisy ones, and noise: each further away.
    other, noisy = judge.fid(digits.training[:1000]), judge.fid(digits.held_out + torch.randn_like(digits.held_out))
    assert 0.1 < other < 10 < noisy < judge.fid_of_samples(_perfect(), 784)


def test_samples_are_a_function_of_the_seed(digits: Split) -> None:
    judges = [Judge(digits.held_out, 50, seed) for seed in (0, 0, 1)]
    first, again, other = (judge.fid_of_samples(_perfect(), 784) for judge in judges)
    assert first == again != other


def _projected(split: Split, noise: float) -> Autoencoder:
    """A linear autoencoder: the training images' 8 principal components, whitened, as codes."""
    torch.manual_seed(0)
    mean = split.training.flatten(1).mean(dim=0)
    _, deviations, directions = torch.pca_lowrank(split.training.flatten(1) - mean, 8, center=False)
    scale = deviations / len(split.training) ** 0.5

    def encode(x: Tensor) -> Tensor:
        return (x.flatten(1) - mean) @ directions / scale

    def decode(z: Tensor) -> Tensor:
        return (z * scale @ directions.T + mean).view(-1, 1, 28, 28)

    return Autoencoder(encode, decode, lambda x: encode(x) + noise * torch.randn(len(x), 8))


def test_qualities_of_a_linear_autoencoder(digits: Split) -> None:
    model = _projected(digits, 0.0)
    values = evaluate(model, digits)
    assert tuple(values) == QUALITIES
    # What 8 components leave of the variance.
    error = (model.decode(model.encode(digits.held_out)) - digits.held_out).square().flatten(1).sum(dim=1)
    assert values["reconstruction"] == pytest.approx(error.mean().item(), rel=1e-5)
    # A mixture follows the codes better than one Gaussian; reconstructions are the best that codes can give.
    assert values["fid_reconstructions"] < values["fid_mixture"] < values["fid_samples"]
    assert 0.02 < values["normality"] < 0.1


def test_drawn_codes_tell_mixture_and_normality(digits: Split) -> None:
    sure, noisy = (evaluate(_projected(digits, noise), digits) for noise in (0.0, 3.0))
    assert {name for name in QUALITIES if sure[name] != noisy[name]} == {"fid_mixture", "normality"}
    assert noisy["normality"] > 3 * sure["normality"]


def test_midpoints_keep_the_length() -> None:
    a, b = torch.tensor([[3.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 5.0], [3.0, 0.0]])
    diagonal = 4 / 2**0.5
    torch.testing.assert_close(midpoints(a, b), torch.tensor([[diagonal, diagonal], [2.0, 0.0]]))
