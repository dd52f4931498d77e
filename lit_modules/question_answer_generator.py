"""Article 8: BERT that learns to ask, question-answer pairs from a passage, end to end (Scientific Spaces, 2020-07-25).

One BERT models p(answer, question | passage), the answer first, which is easier than the question first:

    tokens      [CLS] passage [SEP] answer [SEP] question [SEP]
    segment     0 ................. 1 .........................

Under UniLM's mask passage tokens see the whole passage, and each token of answer and question sees the passage and what
stands left of it. The loss is the cross-entropy of the tokens of segment 1, each predicted from the one before:

    L = -log p(answer [SEP] question [SEP] | [CLS] passage [SEP])

To ask, several answers are sampled (the most probable tokens that make up a probability of 0.95), so that there are
several pairs, and to each of them the question is found by beam search, so that it fits.

Run it:     python run.py fit --config configs/question_answer_generator.yaml
Expect:     the questions and answers of the example that comes along known by heart, new passages not understood

Source: the article; the mask is that of Dong et al., https://arxiv.org/abs/1905.03197.
"""

from collections.abc import Mapping, Sequence
from typing import Any, overload

import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.nn.functional import cross_entropy

from lit_modules.parts import noise, optimizers
from lit_modules.parts.adversarial import check_name
from lit_modules.parts.asking import Asker, GeneratedPair
from lit_modules.parts.base import BaseModule
from lit_modules.parts.counted import CountedEvaluation
from lit_modules.parts.distributed import mean_over_ranks
from lit_modules.parts.exposure import with_wrong_inputs
from lit_modules.parts.generation_metrics import AnswerInPassage, AnswerOverlap, Distinct, QuestionOverlap
from lit_modules.parts.generator_state import GeneratorState
from lit_modules.parts.unilm import without_gaps
from lit_modules.parts.weighted_mean import WeightedMean

__all__ = ["GeneratedPair", "QuestionAnswerGenerator"]


class QuestionAnswerGenerator(GeneratorState, CountedEvaluation, BaseModule):
    """Writes pairs of a question and its answer about a passage.

    Batches are those of PassageDataModule, which has the vocabulary too; a checkpoint keeps that, and
    ``generator.ask("...")`` then needs nothing else.

    Args:
        encoder: name or folder of a transformers checkpoint of BERT or RoFormer to begin with; the datamodule then
            needs its ``tokenizer``. By default a BERT from scratch.
        hidden: numbers of a hidden state, from scratch.
        layers: from scratch.
        heads: of each attention, from scratch.
        dropout: from scratch; a checkpoint has its own.
        max_positions: the longest sequence in tokens, from scratch.
        tied: whether the output uses the matrix of the embeddings.
        answer_first: whether the answer stands before the question, as in the article, or after it.
        label_smoothing: share of the loss that is spread over all tokens; in training only.
        exposure_noise: share of the inputs in answer and question that are replaced by random ones of the same pair,
            in half of the pairs; in training only. The author's other article has 0.3.
        top_k: what comes first is sampled from so many tokens only; all by default.
        top_p: and from the most probable ones that make up this probability.
        temperature: and with logits divided by this.
        beams: of the search for what comes second.
        answer_in_passage: whether only spans of the passage can be answers. The article leaves that open.
        max_answer: longest answer in tokens.
        max_question: longest question in tokens.
        pairs: how many are generated for each passage in evaluation and prediction.
        evaluated_passages: how many passages get generated pairs in each evaluation.
        optimizer: class path of the optimizer.
        optimizer_args: its further arguments.
        learning_rate: of all parameters. The article has 1e-5, for a pretrained network.
        betas: of Adam and its kin; other optimizers don't get it.
        lr_schedule: "constant", or "linear" or "cosine" falling to 0 at the run's end.
        warmup_steps: steps in which the learning rate rises linearly first.
        compile: torch.compile the network for training (evaluation and asking run uncompiled).

    Raises:
        ValueError: an unknown name or an impossible value, naming it and the nearest right one.
    """

    def __init__(
        self,
        encoder: str | None = None,
        hidden: int = 128,
        layers: int = 4,
        heads: int = 4,
        dropout: float = 0.1,
        max_positions: int = 512,
        tied: bool = True,
        answer_first: bool = True,
        label_smoothing: float = 0.0,
        exposure_noise: float = 0.0,
        top_k: int | None = None,
        top_p: float = 0.95,
        temperature: float = 1.0,
        beams: int = 3,
        answer_in_passage: bool = False,
        max_answer: int = 16,
        max_question: int = 64,
        pairs: int = 4,
        evaluated_passages: int = 16,
        optimizer: str = "torch.optim.Adam",
        optimizer_args: dict[str, Any] | None = None,
        learning_rate: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        lr_schedule: str = "constant",
        warmup_steps: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        betas = [float(beta) for beta in betas]
        self.keep_hyperparameters()
        self._check_arguments()
        self._optimizer_args = optimizers.optimizer_arguments(optimizer, betas, optimizer_args or {})
        self.build()
        self.cross_entropy, self.distinct = WeightedMean(), Distinct(2)
        self.answers, self.questions, self.in_passage = AnswerOverlap(), QuestionOverlap(), AnswerInPassage()

    def _check_arguments(self) -> None:
        hp = self.hparams
        check_name("lr_schedule", hp["lr_schedule"], optimizers.SCHEDULES)
        at_least_1 = ("hidden", "layers", "heads", "max_positions", "beams", "max_answer", "max_question", "pairs")
        for name in at_least_1:
            if hp[name] < 1:
                raise ValueError(f"{name}={hp[name]} must be at least 1")
        for name in ("dropout", "label_smoothing", "exposure_noise"):
            if not 0 <= hp[name] < 1:
                raise ValueError(f"{name}={hp[name]} must be at least 0 and below 1")
        for name in ("warmup_steps", "evaluated_passages"):
            if hp[name] < 0:
                raise ValueError(f"{name}={hp[name]} must not be negative")
        if hp["top_k"] is not None and hp["top_k"] < 1:
            raise ValueError(f"top_k={hp['top_k']} must be at least 1, or null for all tokens")
        if not 0 < hp["top_p"] <= 1:
            raise ValueError(f"top_p={hp['top_p']} must be above 0 and at most 1")
        if not hp["temperature"] > 0:
            raise ValueError(f"temperature={hp['temperature']} must be above 0")

    # ---- One training step ----

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> STEP_OUTPUT:
        """L a token (scalar), with several processes of all their tokens."""
        draws = self._draws(len(batch["passage"]), batch_idx) if self.hparams["exposure_noise"] else None
        losses = self._token_losses(batch, self.hparams["label_smoothing"], draws)
        # DDP takes the mean of the processes' gradients.
        loss = losses.sum() / mean_over_ranks(losses.new_tensor(len(losses)))
        self.log_step({"train/loss": loss}, in_bar=("loss",))
        return loss

    def _token_losses(
        self, batch: Mapping[str, Any], label_smoothing: float = 0.0, draws: Tensor | None = None
    ) -> Tensor:
        """The cross-entropy of each token of segment 1 in a batch, (N,), pair by pair."""
        if not len(batch["passage"]):
            return self._no_losses()
        parts = ("passage", "answer", "question") if self.hparams["answer_first"] else ("passage", "question", "answer")
        mask = torch.cat([batch[f"{name}_mask"] for name in parts], dim=1)
        target, passage = torch.cat([batch[name] for name in parts[1:]], dim=1), batch["passage"]
        written = mask[:, passage.shape[1] :]
        inputs = target if draws is None else self._noisy(target, written, draws)
        tokens = torch.cat([passage, inputs], dim=1)
        segments = torch.cat([torch.zeros_like(passage), torch.ones_like(target)], dim=1)
        # A fifth less to compute than with each part padded for itself.
        mask, tokens, segments = without_gaps(mask, tokens, segments)
        # The last token of the passage and all of the target but the last: what the next one is predicted from.
        wanted = (mask & (segments == 1)).roll(-1, dims=1)
        logits = self.network(tokens, segments, mask, wanted)
        return cross_entropy(logits.float(), target[written], reduction="none", label_smoothing=label_smoothing)

    def _no_losses(self) -> Tensor:
        """Of a process that gets no pair of a batch: (0,), with a gradient for every parameter, which DDP waits for."""
        return self.one_token().flatten()[:0]

    def _draws(self, rows: int, batch_idx: int) -> Tensor:
        # For targets of any length that the network takes, so that a row's draws don't depend on the batch.
        shape, stream = (1 + 2 * self.network.max_positions,), f"exposure noise {batch_idx}"
        step, device = self.trainer.global_step, self.device
        return noise.draw([rows], shape, step=step, stream=stream, device=device, distribution=torch.rand)[0]

    def _noisy(self, target: Tensor, mask: Tensor, draws: Tensor) -> Tensor:
        # Where answer and question end stays known.
        ordinary = mask & (target != self.tokenizer.sep)
        return with_wrong_inputs(target, ordinary, draws, self.hparams["exposure_noise"])

    def on_fit_start(self) -> None:
        """Train in training mode; compile the network if asked to."""
        super().on_fit_start()
        self.compile_if_asked(self.network, dynamic=True)

    def configure_optimizers(self) -> Any:
        """One optimizer over the network, and a scheduler that steps with it."""
        _ = self.tokenizer
        return self.optimizer_over({"network": (self.network, self.hparams["learning_rate"])}, self._optimizer_args)

    # ---- Evaluation ----

    def _count(self, batch: Mapping[str, Any]) -> None:
        # As in the other commands, whose networks come from checkpoints and aren't compiled.
        with torch.compiler.set_stance("force_eager"):
            losses = self._token_losses(batch)
        self.cross_entropy.update(losses, torch.ones_like(losses))
        evaluated = self.hparams["evaluated_passages"]
        records = [record for record in batch["records"] if record.first and record.piece < evaluated]
        found = self._asker().about([record.passage for record in records], [record.piece for record in records])
        pairs = [(record, pair) for record, own in zip(records, found, strict=True) for pair in own]
        answers, questions = [pair.answer for _, pair in pairs], [pair.question for _, pair in pairs]
        self.answers.update(answers, [record.answers for record, _ in pairs])
        self.questions.update(questions, [record.questions for record, _ in pairs])
        self.in_passage.update(answers, [record.passage for record, _ in pairs])
        self.distinct.update(questions)

    def _forget(self) -> None:
        self._check_data()
        for metric in (self.cross_entropy, self.answers, self.questions, self.in_passage, self.distinct):
            metric.reset()

    def _log_counts(self, split: str) -> None:
        """Log the counts of all processes together."""
        values = {"perplexity": self.cross_entropy.compute().exp()}
        if self.hparams["evaluated_passages"]:
            values |= {f"answer_{name}": value for name, value in self.answers.compute().items()}
            values |= {f"question_{name}": value for name, value in self.questions.compute().items()}
            values |= {"answer_in_passage": self.in_passage.compute(), "distinct_2": self.distinct.compute()}
        for name, value in values.items():
            self.log(f"{split}/{name}", value, prog_bar=name in ("perplexity", "answer_f1"), sync_dist=True)

    # ---- Asking ----

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[list[dict[str, Any]]]:
        """For each of a batch's passages its pairs: passage, answer, question and score."""
        records = batch["records"]
        found = self._asker().about([record.passage for record in records], [record.number for record in records])
        return [
            [
                {"passage": record.passage, "answer": pair.answer, "question": pair.question, "score": pair.score}
                for pair in pairs
            ]
            for record, pairs in zip(records, found, strict=True)
        ]

    def on_predict_start(self) -> None:
        """See that the datamodule has the same vocabulary."""
        self._check_data()

    @overload
    def ask(self, passage: str, n: int = 4, seed: int = 0) -> list[GeneratedPair]: ...

    @overload
    def ask(self, passage: list[str], n: int = 4, seed: int = 0) -> list[list[GeneratedPair]]: ...

    @torch.no_grad()
    def ask(self, passage: str | list[str], n: int = 4, seed: int = 0) -> Any:
        """Questions about a passage, or about each of several, and their answers.

        Args:
            passage: one, or a list of them, which are all read at once. What is asked about one does not depend on the
                others.
            n: how many different answers; there are fewer where the network doesn't find as many.
            seed: of the random numbers.

        Returns:
            The pairs in the order in which their answers were drawn: the first ones of a greater ``n`` are those of a
            smaller one. None of an empty passage.

        Raises:
            ValueError: no vocabulary is known yet, or a passage is longer than the network takes.
        """
        passages = [passage] if isinstance(passage, str) else passage
        with self.evaluating():
            found = self._asker().about(passages, [seed] * len(passages), n)
        return found[0] if isinstance(passage, str) else found

    def _asker(self) -> Asker:
        return Asker(self.network, self.tokenizer, self.hparams, self.device)
