"""Article 6: Baidu's entity-linking contest, behavior modeling and entity linking (Scientific Spaces, 2019-09-03).

Given a knowledge base and a short text, find the mentions of entities in the text and say which entity each is, though
many share a name. Names of the knowledge base are matched against the text, those names that annotators hardly ever
label are left out (both by the datamodule), and then a network

    reads the text:     x = character + word vector, with the matches' starts and ends; e = BiLSTM(x)
    finds mentions:     p_start, p_end = sigma(conv(e)), 0 where no match starts or ends
    links them:         Q = BiLSTM(e, where the mention is, what the text has in common with the entity's description)
                        D = BiLSTM(description)
                        p_link = sigma(dense(max Att(Q, D), max Att(D, Q), mean of Q over the mention))

L is the sum of three cross-entropies. A text is encoded once, and each candidate entity of a mention is scored alone.

Run it:     python run.py fit --config configs/entity_linker.yaml
Expect:     val/f1 above 0.9 on texts written for this project

Source: the article; the task is that of CCKS 2019.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, overload

import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_modules.parts import optimizers
from lit_modules.parts.adversarial import check_name
from lit_modules.parts.base import BaseModule
from lit_modules.parts.counted import CountedEvaluation
from lit_modules.parts.distributed import mean_over_ranks
from lit_modules.parts.linking import LinkedMention, MentionLinker, Span, gates
from lit_modules.parts.linking_metrics import Link, LinkingAccuracy, LinkingF1, MentionF1
from lit_modules.parts.linking_network import FEATURES
from lit_modules.parts.linking_state import LinkingState
from lit_modules.parts.pointers import gated_cross_entropy
from lit_modules.parts.readers import PretrainedReader

__all__ = ["EntityLinker", "LinkedMention"]


class EntityLinker(LinkingState, CountedEvaluation, BaseModule):
    """Finds mentions of a knowledge base's entities in short texts and tells which entity each means.

    Batches are those of EntityLinkingDataModule. The characters that have embeddings come from the datamodule, by
    ``characters`` or from a checkpoint, and until then there are none. ``linker.link("...")`` links a text.

    Args:
        dim: numbers of a character's embedding.
        hidden: numbers of each direction of the LSTMs; their two directions are the width of all that follows.
        heads: of the attentions between text and description.
        head_dim: numbers of a head.
        dropout: of embeddings, or of the encoder's states.
        gate: whether a mention begins and ends where a match does.
        features: what the linking sees of what a text has in common with a description, of "character", "word" and
            "object" (a short object of the description stands in the text); all of them by default.
        encoder: name or folder of a transformers model that reads texts and descriptions in place of the LSTM; the
            datamodule then needs its ``tokenizer``.
        start_threshold: a mention starts where the probability is above this.
        end_threshold: a mention ends where the probability is above this.
        link_threshold: a mention whose best candidate has a lower probability is dropped.
        restrict_candidates: whether a name that training texts link at least twice to some entities means these only.
        optimizer: class path of the optimizer.
        optimizer_args: its further arguments.
        learning_rate: of all but the encoder.
        encoder_learning_rate: of the encoder.
        betas: of Adam and its kin; other optimizers don't get it.
        lr_schedule: "constant", or "linear" or "cosine" falling to 0 at the run's end.
        warmup_steps: steps in which the learning rates rise linearly first.
        compile: torch.compile the encoder for training (evaluation and linking run uncompiled).
        characters: the characters in the order of their numbers, the first for padding, the second for unknown ones.

    Raises:
        ValueError: an unknown name or an impossible value, naming it and the nearest right one.
    """

    def __init__(
        self,
        dim: int = 128,
        hidden: int = 64,
        heads: int = 8,
        head_dim: int = 16,
        dropout: float = 0.2,
        gate: bool = True,
        features: Sequence[str] = FEATURES,
        encoder: str | None = None,
        start_threshold: float = 0.4,
        end_threshold: float = 0.4,
        link_threshold: float = 0.1,
        restrict_candidates: bool = True,
        optimizer: str = "torch.optim.Adam",
        optimizer_args: dict[str, Any] | None = None,
        learning_rate: float = 1e-3,
        encoder_learning_rate: float = 3e-5,
        betas: Sequence[float] = (0.9, 0.999),
        lr_schedule: str = "constant",
        warmup_steps: int = 0,
        compile: bool = False,
        characters: list[str] | None = None,
    ) -> None:
        super().__init__()
        betas = [float(beta) for beta in betas]
        features = list(features)
        self.keep_hyperparameters("characters")
        self._check_arguments()
        self._optimizer_args = optimizers.optimizer_arguments(optimizer, betas, optimizer_args or {})
        self.build(characters or [])
        self.mention_f1, self.linking_accuracy, self.linking_f1 = MentionF1(), LinkingAccuracy(), LinkingF1()

    def _check_arguments(self) -> None:
        hp = self.hparams
        check_name("lr_schedule", hp["lr_schedule"], optimizers.SCHEDULES)
        for name in hp["features"]:
            check_name("feature", name, FEATURES)
        if len(set(hp["features"])) < len(hp["features"]):
            raise ValueError(f"features={hp['features']} has one twice")
        for name in ("dim", "hidden", "heads", "head_dim"):
            if hp[name] < 1:
                raise ValueError(f"{name}={hp[name]} must be at least 1")
        for name in ("start_threshold", "end_threshold", "link_threshold", "dropout"):
            if not 0 <= hp[name] < 1:
                raise ValueError(f"{name}={hp[name]} must be at least 0 and below 1")
        if hp["warmup_steps"] < 0:
            raise ValueError(f"warmup_steps={hp['warmup_steps']} must not be negative")
        if hp["compile"] and hp["encoder"] is None:
            raise ValueError("compile=True needs an encoder: torch.compile leaves the LSTMs as they are")

    # ---- One training step ----

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> STEP_OUTPUT:
        """L of a batch (scalar), with several processes of all their batches."""
        encoding, mask = self.network.read(batch), batch["mask"]
        parts = zip(("start", "end"), self.network.spans(encoding), gates(batch, self.hparams), strict=True)
        losses = {
            f"train/{name}": gated_cross_entropy(logits, batch[f"{name}s"], gate, mask) for name, logits, gate in parts
        }
        losses["train/link"] = self._link_loss(encoding, mask, batch["rows"])
        loss = torch.stack(list(losses.values())).sum()
        self.log_step({"train/loss": loss} | losses, in_bar=("loss",))
        return loss

    def _link_loss(self, encoding: Tensor, mask: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """The mean cross-entropy over all processes' rows; 0 where there are none."""
        linked = rows["linked"].float()
        mean_rows = mean_over_ranks(linked.new_tensor(len(linked)))
        if not len(linked):
            return self.network.untouched()
        logits = self.network.link(encoding, mask, rows).float()
        return binary_cross_entropy_with_logits(logits, linked, reduction="sum") / mean_rows

    def on_fit_start(self) -> None:
        """Train in training mode; compile the encoder if asked to."""
        super().on_fit_start()
        if isinstance(self.network.reader, PretrainedReader):
            self.compile_if_asked(self.network.reader.model, dynamic=True)

    def configure_optimizers(self) -> Any:
        """One optimizer over the network and its encoder, and a scheduler that steps with it."""
        parts = {"network": (self.network.without_encoder(), self.hparams["learning_rate"])}
        if isinstance(self.network.reader, PretrainedReader):
            parts["encoder"] = (self.network.reader.model, self.hparams["encoder_learning_rate"])
        return self.optimizer_over(parts, self._optimizer_args)

    # ---- Evaluation ----

    def _count(self, batch: Mapping[str, Any]) -> None:
        linker, encoding = self._linker(), self.network.read(batch)
        found, gold = linker.find(batch, encoding), _gold(batch["texts"])
        ranked = linker.rank(batch, encoding, list(dict.fromkeys([*found, *gold])))
        answers = linker.best(ranked, [span for span in gold if span in ranked])
        linked = linker.best(ranked, linker.kept(ranked, found))
        by_text = partial(_by_text, number=len(batch["texts"]))
        self.mention_f1.update(by_text(dict.fromkeys(found, "")), by_text(gold))
        self.linking_accuracy.update(by_text(answers), by_text(gold))
        self.linking_f1.update(by_text(linked), by_text(gold))

    def _linker(self) -> MentionLinker:
        # A checkpoint may have brought the datamodule its word vectors after both were set up.
        self.take_data(self.data)
        return MentionLinker(self.network, self.data, self.hparams, self.device)

    def _forget(self) -> None:
        for metric in (self.mention_f1, self.linking_accuracy, self.linking_f1):
            metric.reset()

    def _log_counts(self, split: str) -> None:
        """Log the counts of all processes together."""
        values = {f"mention_{name}": value for name, value in self.mention_f1.compute().items()}
        values |= self.linking_f1.compute() | {"linking_accuracy": self.linking_accuracy.compute()}
        for name, value in values.items():
            self.log(f"{split}/{name}", value, prog_bar=name.endswith("f1"), sync_dist=True)

    # ---- Linking texts ----

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """The competition's records of a batch's texts: text_id, text, mention_data with kb_id, mention, offset."""
        return self._linker().records(batch)

    @overload
    def link(self, texts: str) -> list[LinkedMention]: ...

    @overload
    def link(self, texts: list[str]) -> list[list[LinkedMention]]: ...

    @torch.no_grad()
    def link(self, texts: str | list[str]) -> Any:
        """Find the mentions of a text, or of each of several, and what they mean.

        Args:
            texts: one or a list of them, which are all read at once.

        Raises:
            ValueError: there is no knowledge base: set ``data``.
        """
        with self.evaluating():
            mentions = self._linker().mentions([texts] if isinstance(texts, str) else texts)
        return mentions[0] if isinstance(texts, str) else mentions


def _gold(texts: Sequence[Any]) -> dict[Span, str]:
    """The ids that are right, by mention; without NIL."""
    return {
        (number, mention.start, mention.end): mention.entity
        for number, text in enumerate(texts)
        for mention in text.mentions
        if mention.entity is not None
    }


def _by_text(links: Mapping[Span, str], number: int) -> list[list[Link]]:
    """Of each of so many texts its (start, end, id)."""
    sorted_out: list[list[Link]] = [[] for _ in range(number)]
    for (text, start, end), entity in links.items():
        sorted_out[text].append((start, end, entity))
    return sorted_out
