"""Every module in half precision and with its networks compiled: trained for 20 steps it ends near where float32 ends.

What is compared are the weights: how far they are from those of float32, in units of how far these moved.
"""

import copy
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch._dynamo.utils import counters

import run
from lit_modules import EntityLinker, FreeformClassifier, OptimizationFlow, collect
from runner.plugins import Plugin
from tests.comparing import assert_same
from tests.lit_modules.tiny_encoder import tiny_encoder
from tests.runner.command_line import ROOT, only_run
from tests.test_configs import bert
from tests.test_every_module import MODULES, config_of, load

STEPS = 20


class Record(Callback):
    """Keeps what the last training in this process began and ended with."""

    start: ClassVar[Tensor]
    end: ClassVar[Tensor]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Record.start = weights(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Record.end = weights(pl_module)


def weights(module: nn.Module) -> Tensor:
    """All parameters in one row."""
    return torch.cat([parameter.detach().flatten().double() for parameter in module.parameters()])


class Classifier(nn.Sequential):
    """Of digits of 12x12."""

    def __init__(self) -> None:
        # Nothing with a kink, at which rounding could make a great difference.
        super().__init__(nn.Flatten(), nn.Linear(144, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 10))


@dataclass(frozen=True)
class Case:
    """A module made tiny.

    Args:
        model: its arguments.
        data: the datamodule's, beside those of the module's config.
        bfloat16: how far bf16-mixed may end from float32.
        float16: how far 16-mixed may.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    bfloat16: float
    float16: float


def sgd(learning_rate: float) -> dict[str, Any]:
    """Adam would make steps of one size of the smallest gradients too, which are rounding alone."""
    return {"optimizer": "torch.optim.SGD", "learning_rate": learning_rate}


GAN = {"image_size": 12, "width": 4, "latent_dim": 8, "spectral_norm": True, "optimizer": "torch.optim.SGD"}
GAN |= {"discriminator_lr": 0.01, "generator_lr": 0.01}
DENSE = {"image_size": 12, "hidden_dim": 8}
IMAGES = {"size": 12, "batch_size": 16}
BERT = {"hidden": 16, "layers": 1, "heads": 2, "dropout": 0.0, "evaluated_passages": 0}
LINKER = {"dim": 16, "hidden": 8, "heads": 2, "head_dim": 4, "dropout": 0.0}
CASES = {
    # Measured: 0.0042.
    "EntityLinker": Case(LINKER | sgd(0.1), {"batch_size": 8}, 0.02, 0.02),
    # Measured: 0.059 and 0.036. Which neighbor is the nearest hangs on rounding.
    "EntropicAutoencoder": Case({"image_size": 12, "width": 4, "latent_dim": 4} | sgd(1e-3), IMAGES, 0.2, 0.1),
    # Measured: 0.00096 and 0.00007.
    "FreeformAutoencoder": Case(DENSE | sgd(1.0), IMAGES, 0.005, 0.0005),
    # Measured: 0.0098 and 0.00023.
    "FreeformClassifier": Case(DENSE | {"feature_dim": 2, "center_loss_weight": 0.02} | sgd(0.1), IMAGES, 0.05, 0.002),
    # Equal: all of it is computed in float32.
    "LibraryEmbedding": Case(sgd(0.1), {}, 0.0, 0.0),
    # Measured: 0.0026 and 0.00034.
    "OptimizationFlow": Case({"network": "tests.test_precision.Classifier"}, IMAGES, 0.02, 0.002),
    # Measured: 0.0016 and 0.00023.
    "QuestionAnswerGenerator": Case(BERT | sgd(0.1), {"batch_size": 8, "vocabulary_size": 300}, 0.01, 0.001),
    # Measured: 0.0018 and 0.00030.
    "RelativisticGAN": Case(GAN | {"r1_weight": 1.0}, IMAGES, 0.01, 0.002),
    # Measured: 0.036 and 0.0013.
    "SingleLossGAN": Case(GAN | {"r1_weight": 1.0}, IMAGES, 0.1, 0.01),
}
FLOAT16 = {
    "class_path": "lightning.pytorch.plugins.MixedPrecision",
    "init_args": {
        "precision": "16-mixed",
        "device": "cpu",
        # Without a step that is skipped because of its scale.
        "scaler": {"class_path": "torch.amp.GradScaler", "init_args": {"device": "cpu", "init_scale": 128.0}},
    },
}


def tiny(plugin: Plugin) -> dict[str, Any]:
    """The config of a module, made tiny, with nothing but training."""
    config, case = config_of(plugin), CASES[plugin.name]
    config["model"]["init_args"] = dict(case.model)
    if plugin.name == "OptimizationFlow":
        config["data"] = {"class_path": "ImageDataModule"}
    config["data"]["init_args"] = config["data"].get("init_args", {}) | case.data
    config["trainer"] |= {"accelerator": "cpu", "strategy": "auto", "max_steps": STEPS, "limit_val_batches": 0}
    config["trainer"] |= {"enable_model_summary": False, "callbacks": [{"class_path": "tests.test_precision.Record"}]}
    return {name: config[name] for name in ("seed_everything", "model", "data", "trainer")}


def trained(config: dict[str, Any], **trainer: Any) -> tuple[Tensor, Tensor]:
    """The weights before and after."""
    Path("tiny.yaml").write_text(yaml.safe_dump(config | {"trainer": config["trainer"] | trainer}))
    assert run.main(["fit", "--config", "tiny.yaml"]) == 0
    return Record.start, Record.end


def distance(ended: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    """How far the other training ended from where this one did, in units of the way of this one."""
    assert torch.equal(ended[0], other[0])
    return float((other[1] - ended[1]).norm() / (ended[1] - ended[0]).norm())


@pytest.fixture(params=MODULES, ids=lambda plugin: plugin.name)
def plugin(request: pytest.FixtureRequest) -> Plugin:
    return request.param


@pytest.fixture(autouse=True)
def in_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_module_has_its_line_in_the_docs(plugin: Plugin) -> None:
    assert f"\n| `{plugin.name}` |" in (ROOT / "docs" / "precision.md").read_text()


@pytest.mark.slow
def test_half_precision(plugin: Plugin) -> None:
    config, case = tiny(plugin), CASES[plugin.name]
    full = trained(config)
    far = distance(full, trained(config, precision="bf16-mixed"))
    print(f"bf16-mixed ends {far:.2g} from float32")
    assert far <= case.bfloat16
    # Above what sums in another order make: it is half precision that was used.
    assert far > 1e-5 or not case.bfloat16
    if plugin.name == "EntityLinker":
        pytest.skip("not every CPU has LSTMs in float16")
    far = distance(full, trained(config, plugins=[FLOAT16]))
    print(f"16-mixed ends {far:.2g} from float32")
    assert far <= case.float16


@pytest.mark.slow
def test_double_precision(plugin: Plugin) -> None:
    """Trained and validated; the start is another draw than in float32."""
    _, end = trained(tiny(plugin), precision="64-true", limit_val_batches=1, val_check_interval=STEPS)
    assert end.isfinite().all()
    assert not torch.equal(end, end.float().double())


def test_a_metric_of_half_precision_features_is_of_float32() -> None:
    model, x = FreeformClassifier(), torch.rand(4, 1, 28, 28)
    with torch.autocast("cpu", torch.bfloat16), collect() as added:
        h = model.encoder(x)
        model.features(x)
    assert h.dtype == torch.bfloat16
    assert added.values()["x_h_norm"] == h.float().square().sum(dim=1).mean()


# ---- Compiled ----

COMPILED = [plugin for plugin in MODULES if plugin.name != "LibraryEmbedding"]
compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU: g++")
of_torch = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute of a Tensor:UserWarning"
)


@pytest.fixture
def graphs() -> Iterator[dict[str, int]]:
    """What was compiled since the test began, under "unique_graphs"; giving up for too many sizes is an error."""
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield counters["stats"]


def to_compile(plugin: Plugin, folder: Path) -> dict[str, Any]:
    """The tiny config, of the linker with an encoder."""
    config = tiny(plugin)
    if plugin.name == "EntityLinker":
        folder.mkdir()
        bert(folder)
        tiny_encoder(folder, 0.0, len((folder / "vocab.txt").read_text().splitlines()), positions=256)
        config["model"]["init_args"]["encoder"] = config["data"]["init_args"]["tokenizer"] = str(folder)
    return config


def compiled(config: dict[str, Any]) -> dict[str, Any]:
    """A config that is the same but compiled."""
    config = copy.deepcopy(config)
    config["model"]["init_args"]["compile"] = True
    return config


@pytest.mark.slow
@compiler
@of_torch
@pytest.mark.parametrize("plugin", COMPILED, ids=lambda plugin: plugin.name)
def test_compiled(plugin: Plugin, graphs: dict[str, int], tmp_path: Path) -> None:
    """Ends where uncompiled training does, up to the order of sums, and has the same names in its checkpoint."""
    config = to_compile(plugin, tmp_path / "bert")
    eager, names = trained(config), parameter_names(tmp_path)
    assert not graphs["unique_graphs"]
    far = distance(eager, trained(compiled(config)))
    print(f"compiled ends {far:.2g} from float32, {graphs['unique_graphs']} graphs")
    # Measured: at most 2.2e-6.
    assert far < 1e-5
    assert graphs["unique_graphs"]
    assert parameter_names(tmp_path) == names


def parameter_names(folder: Path) -> list[str]:
    """Those of the only run's checkpoint; the run is removed."""
    names = list(load(only_run(folder))["state_dict"])
    shutil.rmtree(folder / "runs")
    return names


@pytest.mark.slow
@compiler
@of_torch
@pytest.mark.parametrize(
    "plugin", [p for p in COMPILED if p.name in ("FreeformClassifier", "QuestionAnswerGenerator")], ids=lambda p: p.name
)
def test_compiled_training_resumes_exactly(plugin: Plugin, tmp_path: Path) -> None:
    """With averaged weights, too; an uncompiled module loads what it saved."""
    config = compiled(to_compile(plugin, tmp_path / "bert"))
    average = {"class_path": "ExponentialMovingAverage", "init_args": {"module": "", "decay": 0.9}}
    trained(config, callbacks=[average], max_steps=4)
    whole = load(only_run(tmp_path))
    shutil.rmtree("runs")
    trained(config, callbacks=[average], max_steps=2)
    assert run.main(["fit", "--config", "tiny.yaml", "--ckpt_path=last", "--trainer.max_steps=4"]) == 0
    assert_same(load(only_run(tmp_path)), whole)
    assert "_orig_mod" not in str(whole)
    path = only_run(tmp_path) / "checkpoints" / "last.ckpt"
    reloaded = plugin.load().load_from_checkpoint(path, weights_only=True, compile=False)
    assert_same(dict(reloaded.state_dict()), dict(whole["state_dict"]))


def test_why_networks_are_not_compiled_by_their_own_method(graphs: dict[str, int]) -> None:
    """Where this fails, `network.compile()` can take the place of what `compile_if_asked` does."""
    network = nn.Sequential(nn.Linear(2, 2))
    network.compile(backend="eager")
    network(torch.ones(1, 2))
    assert not graphs["unique_graphs"]


def test_without_a_compiler_for_the_cpu_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "absent")
    config = "configs/freeform_classifier.yaml"
    assert run.main(["fit", "--config", config, "--model.compile=true", "--trainer.accelerator=cpu"]) == 2
    assert "compile=True needs a C++ compiler on a CPU: install g++, or set CXX" in capsys.readouterr().err


def test_what_cannot_be_compiled_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="compile=True needs an encoder: torch"):
        EntityLinker(compile=True)
    with pytest.raises(ValueError, match="compile belongs to a network: leave it out with a test function"):
        OptimizationFlow(compile=True)
    # It has no network.
    assert run.main(["fit", "--config", "configs/library_embedding.yaml", "--model.compile=true"]) == 2
    assert "LibraryEmbedding has no argument 'compile'" in capsys.readouterr().err
