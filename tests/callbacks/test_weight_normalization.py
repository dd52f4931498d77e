"""WeightNormalization on modules that know nothing of it, and through run.py."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import run
from callbacks import ExponentialMovingAverage, WeightConstraint, WeightNormalization
from tests.callbacks.modules import Images, TinyClassifier, TinyGAN, lightning_noise, quiet_trainer
from tests.comparing import assert_same
from tests.runner.command_line import only_run, run_to_end
from weight_norms import Selection, bake_in, normalize, spectral_norm, unit_norms

pytestmark = lightning_noise
HERE = "tests.callbacks.test_weight_normalization"


class Recurrent(pl.LightningModule):
    """Points (B, 3) read as sequences: LSTM, batch norm, a dense layer, with dropout; nothing of this project."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 4, num_layers=2, batch_first=True)
        self.norm = nn.BatchNorm1d(4)
        self.dropout = nn.Dropout(0.3)
        self.dense = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3) to (B, 2)."""
        return self.dense(self.dropout(self.norm(self.lstm(x.unsqueeze(2))[0][:, -1])))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The mean square error of a linear map."""
        loss = (self(batch[0]) - batch[0][:, :2]).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """The same on held-out points."""
        self.log("val/loss", (self(batch[0]) - batch[0][:, :2]).square().mean(), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), 0.02)


class Soft(nn.Module):
    """c * tanh(w / c): a kind of normalization of a user's own."""

    def __init__(self, bound: float = 1.0) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, weight: Tensor) -> Tensor:
        """The normalized weight."""
        return self.bound * torch.tanh(weight / self.bound)


def is_dense(name: str, layer: nn.Module) -> bool:
    """A predicate that a config can name."""
    return name == "dense"


NORMALIZATIONS: list[dict[str, Any]] = [
    {"classes": ["LSTM"], "parameter": "weight_*", "kind_args": {"n_power_iterations": 2}},
    {"names": ["nor*"]},
    {"kind": {"class_path": f"{HERE}.Soft", "init_args": {"bound": 0.5}}, "predicate": f"{HERE}.is_dense"},
    {"kind": "l2", "classes": ["Linear"], "names": ["dense"]},
]


def config(model: str, data: str, callbacks: list[dict[str, Any]], steps: int = 4) -> dict[str, Any]:
    """A config of a few steps on the CPU."""
    trainer = {"accelerator": "cpu", "max_steps": steps, "val_check_interval": 2, "check_val_every_n_epoch": None}
    return {
        "model": {"class_path": model},
        "data": {"class_path": data},
        "trainer": trainer | {"log_every_n_steps": 1, "enable_progress_bar": False, "callbacks": callbacks},
    }


def toy_config(normalizations: list[dict[str, Any]], steps: int = 4) -> dict[str, Any]:
    """`Recurrent`, normalized."""
    callbacks = [{"class_path": "WeightNormalization", "init_args": arguments} for arguments in normalizations]
    return config(f"{HERE}.Recurrent", "tests.toys.ToyData", callbacks, steps)


def write(folder: Path, settings: dict[str, Any]) -> str:
    """The config as a file."""
    folder.mkdir(exist_ok=True)
    (folder / "toy.yaml").write_text(yaml.safe_dump(settings))
    return str(folder / "toy.yaml")


def load(folder: Path) -> dict[str, Any]:
    """The last checkpoint of the only run below a folder."""
    return torch.load(only_run(folder) / "checkpoints" / "last.ckpt", weights_only=True)


def trained(module: pl.LightningModule, *callbacks: Callback, **arguments: Any) -> Any:
    """The module after an epoch on random images."""
    quiet_trainer(callbacks=list(callbacks), **arguments).fit(module, Images())
    return module


# ---- On modules that know nothing of it ----


@pytest.mark.parametrize("n_power_iterations", [1, 5])
def test_the_spectral_norm_is_1_after_training(n_power_iterations: int) -> None:
    class Deep(TinyClassifier):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(
                *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
                *(nn.ConvTranspose2d(6, 4, 3), nn.Flatten(), nn.Linear(256, 16), nn.ReLU(), nn.Linear(16, 1)),
            )

    torch.manual_seed(0)
    callback = WeightNormalization(kind_args={"n_power_iterations": n_power_iterations})
    gamma = WeightNormalization(classes=["BatchNorm2d"])
    module = Deep()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trained(module, callback, gamma, max_epochs=40).eval()
    for layer, dim in ((1, 0), (4, 1), (6, 0), (8, 0)):
        assert spectral_norm(module.network[layer].weight, dim).item() == pytest.approx(1, abs=1e-3)
        original = module.network[layer].parametrizations.weight.original
        assert (original - before[f"network.{layer}.weight"]).norm() > 0.01 * original.norm()
    assert module.network[2].weight.abs().max().item() == pytest.approx(1, abs=1e-6)


def test_manual_optimization_with_several_optimizers() -> None:
    torch.manual_seed(0)
    gan = trained(TinyGAN(), WeightNormalization("l2", names=["generator.0", "discriminator"])).eval()
    for layer in (gan.generator[0], gan.discriminator):
        torch.testing.assert_close(unit_norms(layer.weight, 0), torch.ones(len(layer.weight), 1))
        assert (unit_norms(layer.parametrizations.weight.original, 0) - 1).abs().max() > 0.01


def test_another_trainer_finds_it_done() -> None:
    callback = WeightNormalization()
    module = trained(TinyClassifier(), callback)
    names = list(module.state_dict())
    for again in (callback, WeightNormalization(), copy.deepcopy(callback)):
        trained(module, again)
    assert list(module.state_dict()) == names


def test_a_checkpoint_without_a_trainer(tmp_path: Path) -> None:
    module = TinyClassifier()
    trainer = quiet_trainer(callbacks=[WeightNormalization()])
    trainer.fit(module, Images())
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)

    again: Any = TinyClassifier()
    normalize(again, "spectral", selection=Selection())
    again.load_state_dict(torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"])
    x = torch.randn(3, 64)
    expected = module.eval().network(x)
    assert torch.equal(again.eval().network(x), expected)
    plain = TinyClassifier()
    plain.load_state_dict(bake_in(again).state_dict())
    torch.testing.assert_close(plain.network(x), expected, rtol=1e-6, atol=1e-6)


def test_averaged_weights() -> None:
    """The average is one of the trained weights; divided as the last step's singular vectors say, it is near 1."""
    torch.manual_seed(0)
    seen: dict[str, Any] = {}

    class Looks(TinyClassifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            seen["norm"] = spectral_norm(self.network.weight).item()
            seen["original"] = self.network.parametrizations.weight.original.clone()  # type: ignore[union-attr]

    average = ExponentialMovingAverage("network", decay=0.9)
    module = trained(Looks(), average, WeightNormalization(), max_epochs=3)
    assert 1 - 1e-6 < seen["norm"] < 1.01
    assert torch.equal(seen["original"], average.state_dict()["average"]["parametrizations.weight.original"])
    assert not torch.equal(seen["original"], module.network.parametrizations.weight.original)


@pytest.mark.parametrize("callback", [WeightNormalization(), WeightConstraint("clip")])
def test_strategies_that_split_weights_are_refused(callback: Any) -> None:
    trainer: Any = SimpleNamespace(strategy=FSDPStrategy())
    hook, arguments = (callback.setup, ["fit"]) if hasattr(callback, "prepare_module") else (callback.on_fit_start, [])
    with pytest.raises(ValueError, match=r"needs whole weights, FSDPStrategy splits them: set trainer.strategy=ddp"):
        hook(trainer, TinyClassifier(), *arguments)


def test_layers_that_are_made_too_late() -> None:
    class Late(TinyClassifier):
        def __init__(self) -> None:
            super().__init__()
            del self.network

        def configure_model(self) -> None:
            self.network = nn.Linear(64, 1)

    with pytest.raises(ValueError, match=r"Late has no kernel .* configure_model\(\) come too late"):
        trained(Late(), WeightNormalization())


# ---- Several processes ----


class Regression(TinyClassifier):
    """A smooth loss that is a mean over samples; each rank takes its part of the same batches."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 1))  # type: ignore[assignment]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of this rank's samples."""
        part = batch[0].chunk(self.trainer.world_size)[self.trainer.global_rank]
        return self.network(part).square().mean()


class SeedSetup(Callback):
    """Lets singular vectors start alike: spawned processes have random states of their own."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Before the other callbacks."""
        torch.manual_seed(1)


class SaveEachRank(Callback):
    """Saves the parameters that each process ends with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """As they are now."""
        torch.save(pl_module.state_dict(), self.folder / f"{trainer.world_size}-{trainer.global_rank}.pt")


def callbacks_of(case: str) -> list[Callback]:
    """Both callbacks' cases."""
    if case == "constraint":
        return [WeightConstraint("max_norm", {"max_norm": 0.4}), WeightConstraint("spectral", names=["network.2"])]
    return [WeightNormalization(), WeightNormalization("max_norm", {"max_norm": 0.3}, names=["network.0"])]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["normalization", "constraint"])
def test_two_processes_train_as_one(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = DataLoader(TensorDataset(torch.randn(64, 64, generator=torch.Generator().manual_seed(0))), batch_size=8)
    for arguments in ({}, {"devices": 2, "strategy": "ddp_spawn"}):
        torch.manual_seed(0)
        callbacks = [SeedSetup(), *callbacks_of(case), SaveEachRank(tmp_path)]
        quiet_trainer(callbacks=callbacks, use_distributed_sampler=False, **arguments).fit(Regression(), data, data)
    # What Lightning would not say: spawned processes' weights are lost with them.
    assert ("the module of the main process stays untrained" in capfd.readouterr().err) == (case == "normalization")
    one, *two = (torch.load(tmp_path / name, weights_only=True) for name in ("1-0.pt", "2-0.pt", "2-1.pt"))
    assert_same(dict(two[0]), dict(two[1]))
    for name, value in one.items():
        torch.testing.assert_close(two[0][name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)


# ---- Through run.py ----


def test_resume_and_validate_from_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off and resumed, it ends as if not cut, to the last bit; validate loads what was trained."""
    monkeypatch.chdir(tmp_path)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, steps in ((whole, 4), (cut, 2)):
        settings = toy_config(NORMALIZATIONS, steps)
        settings["trainer"]["default_root_dir"] = str(folder / "runs")
        assert run.main(["fit", "--config", write(folder, settings)]) == 0
    assert run.main(["fit", "--config", str(cut / "toy.yaml"), "--trainer.max_steps=4", "--ckpt_path=last"]) == 0
    assert_same(load(cut), load(whole))
    rows = [(only_run(folder) / "metrics.csv").read_text() for folder in (whole, cut)]
    assert rows[0] == rows[1]
    names = load(whole)["state_dict"]
    assert {"norm.parametrizations.weight.original", "lstm.parametrizations.weight_hh_l1.0._u"} <= set(names)

    assert run.main(["validate", "--config", str(whole / "toy.yaml"), f"--ckpt_path={only_run(whole)}"]) == 0
    (validated,) = set((whole / "runs" / "toy").iterdir()) - {only_run_of(names, whole)}
    assert rows[0].splitlines()[-1].split(",")[-1] in (validated / "metrics.csv").read_text()


def only_run_of(state: dict[str, Tensor], folder: Path) -> Path:
    """The run that has a checkpoint."""
    (found,) = (path.parents[1] for path in folder.glob("runs/*/*/checkpoints/last.ckpt"))
    return found


def test_weights_that_a_config_normalizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the four callbacks of the config above say, in the checkpoint's weights."""
    monkeypatch.chdir(tmp_path)
    assert run.main(["fit", "--config", write(tmp_path, toy_config(NORMALIZATIONS))]) == 0
    module: Any = Recurrent()
    normalize(module, kind_args={"n_power_iterations": 2}, selection=Selection(("LSTM",), parameter="weight_*"))
    normalize(module, selection=Selection(names=["norm"]))
    normalize(module, Soft(0.5), selection=Selection(["Linear"]))
    normalize(module, "l2", selection=Selection(["Linear"]))
    module.load_state_dict(load(tmp_path)["state_dict"])
    weight = torch.tanh(module.dense.parametrizations.weight.original * 2) / 2
    torch.testing.assert_close(module.eval().dense.weight, weight / unit_norms(weight, 0))
    assert module.norm.weight.abs().max() == 1
    x = torch.randn(4, 3)
    expected = module(x)
    torch.testing.assert_close(bake_in(module)(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_two_processes_resume_exactly(tmp_path: Path) -> None:
    settings = toy_config(NORMALIZATIONS)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    run_to_end(tmp_path, "fit", "--config", write(whole, settings), *two, f"--trainer.default_root_dir={whole}/runs")
    cut_off = ["fit", "--config", write(cut, settings), *two, f"--trainer.default_root_dir={cut}/runs"]
    run_to_end(tmp_path, *cut_off, "--trainer.max_steps=2")
    run_to_end(tmp_path, *cut_off, "--ckpt_path=last")
    assert_same(load(cut), load(whole))


def test_a_checkpoint_needs_the_same_callback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(["fit", "--config", write(tmp_path, toy_config(NORMALIZATIONS[1:2]))]) == 0
    capsys.readouterr()
    plain = write(tmp_path, toy_config([]))
    assert run.main(["validate", "--config", plain, f"--ckpt_path={only_run(tmp_path)}"]) == 2
    assert "it has norm.parametrizations.weight.original, which the model does not have" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["lstn*"]}, "names: 'lstn*' matches no layer of Recurrent; the nearest: lstm"),
        ({"classes": ["LSTM"]}, "its layers have no parameter that matches 'weight'; the nearest: weight_"),
        ({"kind": "spectrall"}, "unknown kind 'spectrall'; the nearest: spectral"),
        ({"kind_args": {"iterations": 2}}, "no argument 'iterations' in kind_args; it has n_power_iterations"),
    ],
)
def test_mistakes_in_a_config(
    arguments: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(["fit", "--config", write(tmp_path, toy_config([arguments]))]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("n_power_iterations", [1, 5])
def test_on_relativistic_gan_it_is_the_modules_own_option(
    n_power_iterations: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """spectral_norm: true and the callback give the same checkpoint, bit for bit."""
    monkeypatch.chdir(tmp_path)
    arguments = {"names": ["discriminator.*"], "kind_args": {"n_power_iterations": n_power_iterations}}
    callback = [{"class_path": "WeightNormalization", "init_args": arguments}]
    own = {"spectral_norm": True, "power_iterations": n_power_iterations}
    for name, options, callbacks in (("own", own, []), ("callback", {}, callback)):
        settings = config("RelativisticGAN", "ImageDataModule", callbacks, steps=2)
        settings["model"]["init_args"] = {"width": 4} | options
        settings["trainer"] |= {"default_root_dir": str(tmp_path / name / "runs"), "limit_val_batches": 1}
        assert run.main(["fit", "--config", write(tmp_path / name, settings)]) == 0
    own_state, state = (load(tmp_path / name) for name in ("own", "callback"))
    for part in ("state_dict", "optimizer_states"):
        assert_same(state[part], own_state[part])
    assert "discriminator.layers.down0.parametrizations.weight.0._u" in state["state_dict"]
