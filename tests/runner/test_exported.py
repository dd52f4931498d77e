"""What `load` refuses, and what it never does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from safetensors.torch import load_file, save_file
from torch import nn

from lit_modules import EntityLinker, LibraryEmbedding, QuestionAnswerGenerator, RelativisticGAN
from runner.errors import UserError
from runner.exported import CONFIG, DATA, WEIGHTS, Description, load, write
from tests.runner.exporting import POINTS, untrained
from weight_norms import bake_in

PATH = "lit_modules.relativistic_gan.RelativisticGAN"


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    gan = untrained()
    bake_in(gan)
    write(tmp_path, gan, Description(PATH, POINTS, {}))
    return tmp_path


def change(folder: Path, **entries: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | entries))


def rename(folder: Path, new_name: Callable[[str], str]) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({new_name(name): weight for name, weight in weights.items()}, folder / WEIGHTS)


def test_weights_are_plain_files(exported: Path) -> None:
    weights = load_file(exported / WEIGHTS)
    assert "discriminator.layers.0.weight" in weights
    assert not any("parametrizations" in name for name in weights)
    modes = {path.stat().st_mode for path in exported.iterdir()}
    assert len(modes) == 1


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not an exported model: it has no config\.json\.$"):
        load(tmp_path / "nowhere")
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match=r"It is a run: python run\.py export --ckpt .* --out FOLDER"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"format": 1}', '{"format": 1, "class": "x", "arguments": 3}'])
def test_broken_configs(text: str, exported: Path) -> None:
    (exported / CONFIG).write_text(text)
    with pytest.raises(UserError, match=r"config\.json is not the config\.json of an exported model"):
        load(exported)


def test_a_format_of_the_future(exported: Path) -> None:
    change(exported, format=2)
    with pytest.raises(UserError, match="has format 2, this version of litspaces reads 1"):
        load(exported)


@pytest.mark.parametrize(
    "path", ["os.system", "lit_modules.relativistic_gan.RelativisticGun", "elsewhere.RelativisticGAN"]
)
def test_only_registered_classes(path: str, exported: Path) -> None:
    change(exported, **{"class": path})
    with pytest.raises(UserError, match=f"no registered module {path}"):
        load(exported)


def test_unknown_arguments(exported: Path) -> None:
    change(exported, arguments=POINTS | {"witdh": 8})
    with pytest.raises(UserError, match=r"RelativisticGAN has no argument 'witdh'\. Did you mean 'width'\?"):
        load(exported)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("generator", {"class_path": "os.system", "init_args": {}}),
        ("betas", [{"class_path": "os.system"}]),
        ("optimizer", "antigravity.Optimizer"),
    ],
)
def test_no_argument_names_code(name: str, value: Any, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(exported, arguments=POINTS | {name: value})
    with pytest.raises(UserError, match=r"(os\.system|antigravity\.Optimizer), which is not built from JSON"):
        load(exported)


def test_optimizers_of_torch_and_of_plugins(exported: Path) -> None:
    for optimizer in ("torch.optim.SGD", "Adam", "SignFlow", "lit_modules.parts.flows.SignFlow"):
        change(exported, arguments=POINTS | {"optimizer": optimizer})
        assert load(exported).hparams["optimizer"] == optimizer


def test_no_state_names_kernels(exported: Path) -> None:
    change(exported, state={"generator": {"network": {"config": {"attn_implementation": "someone/kernel"}}}})
    with pytest.raises(UserError, match="sets attn_implementation, which can name code to run"):
        load(exported)


def test_no_attention_is_an_address(tmp_path: Path) -> None:
    generator = QuestionAnswerGenerator()
    network = generator.network.settings() | {"attention": "someone/kernel"}
    state = {"generator": {"tokenizer": "{}", "network": network, "data": "PassageDataModule"}}
    name = "lit_modules.question_answer_generator.QuestionAnswerGenerator"
    write(tmp_path, generator, Description(name, {}, state))
    with pytest.raises(ValueError, match="unknown attention 'someone/kernel'"):
        load(tmp_path)


# ---- Weights ----


def test_missing_weights_name_the_nearest(exported: Path) -> None:
    rename(exported, lambda name: name.replace("generator.layers.0.weight", "generator.layers.0.wieght"))
    wanted = r"has no generator\.layers\.0\.weight\. Did you mean 'generator\.layers\.0\.wieght'\?.*into=module"
    with pytest.raises(UserError, match=wanted):
        load(exported)


def test_too_many_weights(exported: Path) -> None:
    weights = load_file(exported / WEIGHTS)
    save_file(weights | {"more": torch.zeros(1)}, exported / WEIGHTS)
    with pytest.raises(UserError, match="has more, which the RelativisticGAN doesn't have"):
        load(exported)


def test_weights_of_other_sizes(exported: Path) -> None:
    change(exported, arguments=POINTS | {"width": 9})
    with pytest.raises(UserError, match=r"generator\.layers\.0\.weight has the shape \(8, 4\), in the .* \(9, 4\)"):
        load(exported)


def test_broken_weights(exported: Path) -> None:
    (exported / WEIGHTS).write_bytes(b"broken")
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load(exported)
    (exported / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load(exported)


class Tied(LightningModule):
    """Two layers of one weight; nobody registers it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
        self.other.weight = self.one.weight


def test_tied_weights_and_a_class_of_ones_own(tmp_path: Path) -> None:
    module = Tied()
    write(tmp_path, module, Description("tests.runner.test_exported.Tied", {}, {}))
    assert len(load_file(tmp_path / WEIGHTS)) == 3
    with pytest.raises(UserError, match="no registered module"):
        load(tmp_path)
    loaded = load(tmp_path, into=Tied())
    assert isinstance(loaded, Tied)
    assert loaded.other.weight is loaded.one.weight
    assert torch.equal(loaded.one.weight, module.one.weight)


# ---- State ----


def test_state_has_tensors_and_numbers_as_keys(tmp_path: Path) -> None:
    books = LibraryEmbedding(items=["a", "b"], counts=[1.0, 2.0])
    state = {"library": {"items": books.items, "counts": books.counts, "more": {3: [None, True, 0.5, {4.5: "x"}]}}}
    write(tmp_path, books, Description("lit_modules.library_embedding.LibraryEmbedding", {}, state))
    seen: dict[str, Any] = {}

    class Watching(LibraryEmbedding):
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            seen.update(checkpoint)
            super().on_load_checkpoint(checkpoint)

    loaded = load(tmp_path, into=Watching())
    assert seen.keys() == {"library", "state_dict"}
    assert seen["library"].pop("counts").equal(state["library"].pop("counts"))
    assert seen["library"] == state["library"]
    assert loaded.most_similar("a") == books.most_similar("a")


def test_missing_state(tmp_path: Path) -> None:
    books = LibraryEmbedding(items=["a", "b"])
    state = {"library": {"items": books.items, "counts": books.counts}}
    write(tmp_path, books, Description("lit_modules.library_embedding.LibraryEmbedding", {}, state))
    save_file({"state.library.cuonts": torch.ones(2)}, tmp_path / DATA)
    with pytest.raises(UserError, match=r"has no state\.library\.counts\. Did you mean 'state\.library\.cuonts'"):
        load(tmp_path)
    change(tmp_path, state={"library": {}})
    with pytest.raises(UserError, match="has no state 'items', which a LibraryEmbedding needs"):
        load(tmp_path)


def test_an_encoder_is_not_loaded_but_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are in the export; where it came from may be gone, or far away."""
    from tests.lit_modules.tiny_encoder import tiny_encoder

    folder = tiny_encoder(tmp_path / "encoder")
    arguments = {"encoder": str(folder), "hidden": 4, "heads": 1, "head_dim": 4}
    linker = EntityLinker(**arguments)
    linker._data = object()
    checkpoint: dict[str, Any] = {}
    linker.on_save_checkpoint(checkpoint)
    out = tmp_path / "out"
    out.mkdir()
    write(out, linker, Description("lit_modules.entity_linker.EntityLinker", arguments, checkpoint))
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", lambda *_, **__: 1 / 0)
    loaded = load(out)
    assert loaded.hparams["encoder"] == str(folder)
    for name, weight in linker.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name


def test_into_leaves_the_arguments_of_the_module(exported: Path) -> None:
    gan = load(exported, into=RelativisticGAN(**POINTS | {"loss": "hinge"}))
    assert gan.hparams["loss"] == "hinge"
    assert not gan.training
