"""Networks as ONNX compute what the modules do, for batches of any size."""

import importlib.util
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

import run
from lit_modules import EntropicAutoencoder, FreeformAutoencoder, FreeformClassifier, LibraryEmbedding, RelativisticGAN
from lit_modules.parts.codes import CodeNorm
from runner import export_onnx
from runner.errors import UserError
from runner.export_onnx import write_onnx
from tests.runner.exporting import untrained
from weight_norms import bake_in

SMALL = {"image_size": 8, "width": 2}
# By what they are: a module, and the method that each of its networks stands for.
MODULES: dict[str, tuple[LightningModule, dict[str, str]]] = {
    "points": (untrained(), {"generator": "decode", "discriminator": "discriminator"}),
    "images": (
        RelativisticGAN(**SMALL, latent_dim=4, spectral_norm=True, channels_last=True),
        {"generator": "decode", "discriminator": "discriminator"},
    ),
    "entropic": (EntropicAutoencoder(**SMALL, latent_dim=3), {"encoder": "encode", "decoder": "decode"}),
    "variational": (
        EntropicAutoencoder(**SMALL, latent_dim=3, channels=3, regularizer="kl", network="dense"),
        {"encoder": "encode", "decoder": "decode"},
    ),
    "freeform": (FreeformAutoencoder(image_size=8, hidden_dim=3), {"encoder": "encode", "decoder": "decode"}),
    "classifier": (FreeformClassifier(image_size=8, feature_dim=2), {"classifier": "forward"}),
}


def train_a_little(module: LightningModule) -> None:
    """Batch norms and spectral norms that have seen something, then what an export does."""
    for _ in range(3):
        for network, example in module.train().portable_networks().values():  # type: ignore[operator]
            network(torch.randn_like(example))
    if isinstance(norm := getattr(module, "code_norm", None), CodeNorm):
        norm.take_statistics(1 + 2 * torch.randn(9, 3))
    bake_in(module.eval())


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODULES)
def test_outputs_are_the_modules(kind: str, tmp_path: Path) -> None:
    module, methods = MODULES[kind]
    train_a_little(module)
    assert write_onnx(module, tmp_path) == [f"{name}.onnx" for name in methods]
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.onnx" for name in methods}
    for (name, method), (_, example) in zip(methods.items(), module.portable_networks().values(), strict=True):
        for size in (1, 2, 7):
            x = torch.randn(size, *example.shape[1:])
            with torch.no_grad():
                wanted = getattr(module, method)(x)
            torch.testing.assert_close(outputs(tmp_path / f"{name}.onnx", x), wanted, atol=1e-4, rtol=1e-4)


def outputs(path: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["output"], {"input": x.numpy()})[0])


def test_of_a_module_without_networks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a LibraryEmbedding has no network to write as ONNX: leave --onnx out"):
        write_onnx(LibraryEmbedding(), tmp_path)


def test_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    there: Any = importlib.util.find_spec
    monkeypatch.setattr(export_onnx, "find_spec", lambda name: None if name == "onnxscript" else there(name))
    assert run.main(["export", "--ckpt=any.ckpt", f"--out={tmp_path / 'out'}", "--onnx"]) == 2
    assert capsys.readouterr().err == "error: --onnx needs onnxscript: pip install onnxscript\n"
