import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest
import torch

from benchmarks.train_digit_features import HELD_OUT, accuracy, read_digits
from callbacks.features import DIGIT_WEIGHTS, DigitFeatures, InceptionFeatures, build_features
from tests.callbacks.modules import Flatten

WITHOUT_FIDELITY = importlib.util.find_spec("torch_fidelity") is None
INCEPTION_WEIGHTS = os.environ.get("INCEPTION_WEIGHTS", "")


@pytest.mark.data
def test_shipped_weights_name_at_least_99_percent_of_the_held_out_digits(shared_data: Path) -> None:
    images, labels = read_digits(
        shared_data / "img" / "mnist-train-images-idx3-ubyte.gz",
        shared_data / "img" / "mnist-train-labels-idx1-ubyte.gz",
    )
    network = DigitFeatures()
    score = accuracy(network, images[-HELD_OUT:], labels[-HELD_OUT:])
    assert score >= 0.99
    assert f"{100 * score:.2f} %" in str(DigitFeatures.__doc__)
    # The docstring: mean 0 and variance 1 over the training digits.
    features = torch.cat([network(part) for part in images[:5000].split(500)])
    assert features.mean(0).abs().max() < 0.2
    assert 0.8 < features.std(0).min() <= features.std(0).max() < 1.2


def test_digit_features_are_frozen_small_and_float32() -> None:
    network = DigitFeatures()
    assert DIGIT_WEIGHTS.stat().st_size < 1_000_000
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    features = network(torch.zeros(3, 1, 28, 28, dtype=torch.bfloat16))
    assert features.shape == (3, network.num_features)
    assert features.dtype == torch.float32


def test_other_sizes_are_resized() -> None:
    small = torch.nn.functional.interpolate(smooth := torch.linspace(-1, 1, 28).expand(1, 1, 28, 28), size=28)
    large = torch.nn.functional.interpolate(smooth, size=56, mode="bicubic").clamp(-1, 1)
    network = DigitFeatures()
    torch.testing.assert_close(network(large), network(small), atol=0.05, rtol=0.05)


def test_colored_images_are_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 28, 28\).*digits.*inception:PATH"):
        DigitFeatures()(torch.zeros(2, 3, 28, 28))


def test_networks_by_name() -> None:
    assert isinstance(build_features("digits"), DigitFeatures)
    own = Flatten()
    assert build_features(own) is own
    with pytest.raises(ValueError, match="unknown feature network 'digit'"):
        build_features("digit")
    with pytest.raises(ValueError, match="Identity needs an integer num_features"):
        build_features(torch.nn.Identity())


def test_missing_inception_weights_are_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        build_features("inception:nowhere.pth")


@pytest.mark.skipif(not WITHOUT_FIDELITY, reason="torch-fidelity is installed")
def test_missing_torch_fidelity_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    with pytest.raises(ModuleNotFoundError, match=r"pip install litspaces\[inception\]"):
        InceptionFeatures(tmp_path / "weights.pth")


@pytest.mark.skipif(WITHOUT_FIDELITY, reason="torch-fidelity is not installed")
@pytest.mark.skipif(not INCEPTION_WEIGHTS, reason="INCEPTION_WEIGHTS names no file with Inception weights")
def test_real_inception_features() -> None:
    features = InceptionFeatures(INCEPTION_WEIGHTS)(torch.rand(2, 3, 32, 32) * 2 - 1)
    assert features.shape == (2, 2048)
    assert (features >= 0).all()


def test_inception_gets_bytes_and_gives_float_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Extractor(torch.nn.Module):
        def __init__(self, name: str, layers: list[str], feature_extractor_weights_path: str) -> None:
            super().__init__()
            assert (name, layers) == ("inception-v3-compat", ["2048"])
            assert Path(feature_extractor_weights_path).is_file()

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
            assert pixels.dtype == torch.uint8
            return (pixels.flatten(1)[:, :3].half(),)

    fake = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    fake.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    (tmp_path / "weights.pth").touch()
    network = build_features(f"inception:{tmp_path / 'weights.pth'}")
    images = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    assert network(images).tolist() == [[0.0, 128.0, 255.0]]
    assert network(images).dtype == torch.float32
    with pytest.raises(ValueError, match=r"\(1, 1, 28, 28\).*digits"):
        network(torch.zeros(1, 1, 28, 28))
