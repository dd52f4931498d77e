"""Article 2: minimum entropy IV, birds of a feather, from the library to word vectors (Scientific Spaces, 2018-12-02).

A library wants the shelving that costs its readers least. Item i stands at v_i, the entrance is the origin, and p(i, j)
is how often j is borrowed after i. Minimize

    S = sum_ij p(i, j) f(v_i, v_j)

with f the way that is walked, |v_i| + |v_i - v_j|, with items at least d_min apart: a floor plan. Or read a way as a
log-probability, f = -log q(j|i), and S is an entropy: S = H(J|I) + sum_i p(i) KL(p(.|i) | q(.|i)). With a Gaussian q
that is SNE, with a slowly falling one the article's form of t-SNE, with an inner product Skip-Gram, the word vectors
(``parts.embedding_costs``). Where p(i, j) comes from is the datamodule's business: words in a window, borrowing
records, or points and their neighbors.

Run it:     python run.py fit --config configs/library_embedding.yaml
Expect:     train/gap, which is S - H(J|I), falling towards what three dimensions can't express. Popular items stand
            near the middle by distances, and far out by inner products.

Source: the article; van der Maaten and Hinton 2008 for SNE and t-SNE; Mikolov et al. 2013 (arXiv 1310.4546).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn

from lit_modules.parts import embedding_costs as costs
from lit_modules.parts import noise, optimizers, places, shelving
from lit_modules.parts.adversarial import check_name
from lit_modules.parts.base import BaseModule
from lit_modules.parts.distributed import mean_over_ranks, rank_and_world_size
from lit_modules.parts.named_vectors import NamedVectors
from lit_modules.parts.skip_gram import SkipGramCost, noise_blocks, skip_gram_cost
from lit_modules.parts.weighted_mean import WeightedMean
from lit_modules.parts.window_pairs import window_pairs

_TEXT = ("tokens", "sentences", "by_distance")


class LibraryEmbedding(NamedVectors, BaseModule):
    """Vectors for items, such that what is often borrowed, read or near after i costs little from i.

    Skip-Gram on running text (cost "dot", two tables, normalizer "negative") goes a fast way of its own,
    ``parts.skip_gram``: its gradients are sparse, so take RowAdagrad, RowSGD or another optimizer that its error names,
    and its loss is the sum over pairs, so that RowSGD's learning rate is that of a pair, as in Word2Vec.

    Batches are dicts of tensors, either pairs, "center" (B,), "context" (B,), "weight" (B,) and perhaps "entropy", the
    mean of -log p(j|i); or running text, "tokens" (B,), "sentences" (B,), "by_distance" (W,), see
    ``parts.window_pairs``.

    The tables are made when it is known what the items are: by ``items``, by the datamodule's attributes ``items`` and
    ``counts``, or by a checkpoint, which holds both.

    Args:
        cost: f, "library", "gaussian", "dot" or "student".
        dim: numbers in a vector.
        tied: one table for centers and contexts, as in the article, and j = i left out; or two, as in Word2Vec.
        normalizer: of q: "full" softmax; "sampled" softmax for many items, with the same minimum; or "negative"
            sampling, whose loss is no entropy.
        negatives: k of negative sampling, how much noise counts against each pair.
        shared_negatives: items drawn and shared by many pairs, for "sampled" and "negative": by default 256 for all of
            a step, on Skip-Gram's fast way 32 for each 32 successive words.
        noise_power: noise is drawn ~ count^noise_power.
        d_min: smallest distance of two items in the library, in the unit of the vectors.
        spacing_weight: of the penalty on items nearer than that, for the cost "library".
        spacing_warmup_steps: steps in which this weight rises linearly from 0: while it is small, items can pass each
            other on the way to where they belong.
        shelves: of a floor plan, numbers of places along three axes, d_min apart, the entrance in a corner. By default
            items stand where their vectors are, if these are places: with dim=3 and a cost that is one of distances;
            otherwise in the smallest cube of shelves.
        swaps: of a floor plan, swaps of two items to try afterwards; some hundreds an item.
        initial_scale: standard deviation of the vectors' coordinates at the start.
        optimizer: class path of the optimizer.
        optimizer_args: its further arguments.
        learning_rate: of both tables.
        betas: of Adam and its kin; other optimizers don't get it.
        lr_schedule: "constant", or "linear" or "cosine" falling to 0 at the run's end.
        warmup_steps: steps in which the learning rate rises linearly first.
        items: names of the items in the order of their numbers.
        counts: how often each occurs, for noise; equally often by default.

    Raises:
        ValueError: an unknown name or an impossible value, naming it and the nearest right one.
    """

    def __init__(
        self,
        cost: str = "gaussian",
        dim: int = 3,
        tied: bool = True,
        normalizer: str = "full",
        negatives: int = 5,
        shared_negatives: int | None = None,
        noise_power: float = 0.75,
        d_min: float = 1.0,
        spacing_weight: float = 10.0,
        spacing_warmup_steps: int = 0,
        shelves: list[int] | None = None,
        swaps: int = 0,
        initial_scale: float = 0.1,
        optimizer: str = "torch.optim.Adam",
        optimizer_args: dict[str, Any] | None = None,
        learning_rate: float = 0.03,
        betas: Sequence[float] = (0.9, 0.999),
        lr_schedule: str = "constant",
        warmup_steps: int = 0,
        items: list[str] | None = None,
        counts: list[float] | None = None,
    ) -> None:
        super().__init__()
        betas = [float(beta) for beta in betas]
        self.keep_hyperparameters("items", "counts")
        self._check_arguments()
        self._optimizer_args = optimizers.optimizer_arguments(optimizer, betas, optimizer_args or {})
        distance = cost in ("gaussian", "student")
        self.offset = nn.Parameter(torch.zeros(())) if normalizer == "negative" and distance else None
        self.mean_cost, self.mean_gap = WeightedMean(), WeightedMean()
        if counts is not None and items is None:
            raise ValueError("counts are those of items: pass both")
        self.take_items(items or [], counts)

    def _check_arguments(self) -> None:
        hp = self.hparams
        check_name("cost", hp["cost"], costs.COSTS)
        check_name("normalizer", hp["normalizer"], costs.NORMALIZERS)
        check_name("lr_schedule", hp["lr_schedule"], optimizers.SCHEDULES)
        for name in ("dim", "negatives", "shared_negatives"):
            if hp[name] is not None and hp[name] < 1:
                raise ValueError(f"{name}={hp[name]} must be at least 1")
        for name in ("noise_power", "spacing_weight", "spacing_warmup_steps", "swaps", "warmup_steps"):
            if hp[name] < 0:
                raise ValueError(f"{name}={hp[name]} must not be negative")
        for name in ("d_min", "initial_scale"):
            if hp[name] <= 0:
                raise ValueError(f"{name}={hp[name]} must be positive")
        if hp["shelves"] is not None:
            places.places(hp["shelves"])
        if hp["cost"] == "library" and not hp["tied"]:
            raise ValueError("tied=False with cost='library': an item stands at one place only")
        if hp["cost"] == "library" and hp["normalizer"] != "full":
            raise ValueError(f"normalizer={hp['normalizer']!r} with cost='library': a way is no probability")

    def setup(self, stage: str) -> None:
        """Take the items from the datamodule, and expect sparse gradients where it has running text for Skip-Gram."""
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        if self._is_skip_gram and self.contexts is not None:
            # DDP asks embeddings for this, and then takes no other gradients.
            self.centers.sparse = datamodule is not None and getattr(datamodule, "pairs", None) is None
            self.contexts.sparse = self.centers.sparse

    # ---- One training step ----

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> STEP_OUTPUT:
        """S of a batch (scalar), with several processes of all their batches; with a penalty for the library."""
        if self._is_skip_gram and "tokens" in batch:
            return self._skip_gram_step(batch)
        center, context, weight = self._pairs(batch)
        weight = weight / mean_over_ranks(weight.sum()).clamp(min=1e-30)
        with torch.autocast(self.device.type, enabled=False):
            drawn = self._draw(self.trainer.fit_loop.total_batch_idx, "train")
            cost = weight @ self._costs(center, context, drawn)
            logged = {"train/cost": cost}
            if self.hparams["cost"] == "library":
                logged["train/overlap"] = costs.spacing_penalty(self._tables()[0], self.hparams["d_min"])
            elif self.hparams["normalizer"] == "full" and "entropy" in batch:
                logged["train/gap"] = cost - weight.sum() * batch["entropy"]
        self.log_step(logged, in_bar=("cost", "gap", "overlap"))
        return cost + self._spacing_weight() * logged.get("train/overlap", 0.0)

    def _spacing_weight(self) -> float:
        steps = self.hparams["spacing_warmup_steps"]
        return self.hparams["spacing_weight"] * (min(1.0, (self.trainer.global_step + 1) / steps) if steps else 1.0)

    def _skip_gram_step(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The sum of the costs of all processes' pairs (scalar)."""
        rank, world_size = rank_and_world_size()
        # Noise belongs to words in a row, of which each rank has others.
        number = self.trainer.fit_loop.total_batch_idx * world_size + rank
        cost = self._skip_gram_cost(batch, noise.keyed_generator(number, "train noise"))
        mean_pairs = mean_over_ranks(cost.pairs).clamp(min=1)
        self.log_step({"train/cost": cost.total.detach() / mean_pairs}, in_bar=("cost",))
        # DDP takes the mean over processes.
        return cost.total * world_size

    def _skip_gram_cost(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> SkipGramCost:
        hp, (tokens, sentences, by_distance) = self.hparams, (batch[name] for name in _TEXT)
        blocks, each = noise_blocks(len(tokens)), hp["shared_negatives"] or 32
        drawn = self.noise.draw(blocks * each, generator).view(blocks, each).to(self.device)
        assert self.contexts is not None
        tables = self.centers.weight, self.contexts.weight
        return skip_gram_cost(*tables, tokens, sentences, by_distance, drawn, hp["negatives"])

    @property
    def _is_skip_gram(self) -> bool:
        hp = self.hparams
        return hp["cost"] == "dot" and not hp["tied"] and hp["normalizer"] == "negative"

    def _pairs(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Centers, contexts and weights, each (B,)."""
        precision = torch.promote_types(self.centers.weight.dtype, torch.float32)
        if "tokens" in batch:
            center, context, weight = window_pairs(*(batch[name] for name in _TEXT))
            if self.hparams["tied"]:
                other = center != context
                center, context, weight = center[other], context[other], weight[other]
            return center, context, weight.to(precision)
        if not isinstance(batch, Mapping) or not {"center", "context", "weight"} <= batch.keys():
            found = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(
                f"a batch needs center, context and weight, or tokens, sentences and by_distance; this one is: {found}"
            )
        return batch["center"], batch["context"], batch["weight"].to(precision)

    def _draw(self, step: int, stream: str) -> Tensor | None:
        """The same noise (m,) on all ranks, as for one process with the whole batch."""
        if self.hparams["normalizer"] == "full":
            return None
        generator = noise.keyed_generator(step, f"{stream} noise")
        return self.noise.draw(self.hparams["shared_negatives"] or 256, generator).to(self.device)

    def _costs(self, center: Tensor, context: Tensor, drawn: Tensor | None) -> Tensor:
        """f of each pair (B,), normalized over all items, or over those that were drawn."""
        hp, (v, u) = self.hparams, self._tables()
        if hp["cost"] == "library":
            return costs.walking_costs(v, center, context)
        tied = hp["tied"]
        if drawn is None:
            # What negative sampling fits is q ~ p_n exp(s).
            prior = self.noise.log_chance(1, self.device) if hp["normalizer"] == "negative" else None
            return costs.full_softmax(hp["cost"], v, u, center, context, tied=tied, log_prior=prior)
        if hp["normalizer"] == "sampled":
            return costs.sampled_softmax(hp["cost"], v, u, center, context, self.noise, drawn, tied=tied)
        offset = 0.0 if self.offset is None else self.offset
        k = hp["negatives"]
        return costs.negative_sampling(hp["cost"], v, u, center, context, drawn, negatives=k, tied=tied, offset=offset)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """v and u, (N, d), in float32 at least."""
        tables = [self.centers.weight, (self.contexts or self.centers).weight]
        v, u = (table.to(torch.promote_types(table.dtype, torch.float32)) for table in tables)
        return v, u

    def configure_optimizers(self) -> Any:
        """One optimizer over the tables, and a scheduler that steps with it."""
        if self.centers.sparse:
            optimizers.refuse_dense_only(self.hparams["optimizer"], self._optimizer_args)
        return self.optimizer_over({"model": (self, self.hparams["learning_rate"])}, self._optimizer_args)

    # ---- Evaluation ----

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Log val/cost and val/gap: of pairs by the full softmax of the q that was fitted; of text as in training."""
        self._log_cost("val", batch, batch_idx)

    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Log test/cost and test/gap."""
        self._log_cost("test", batch, batch_idx)

    def _log_cost(self, split: str, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        values, weight = self._evaluated(split, batch, batch_idx)
        self.mean_cost.update(values, weight)
        self.log(f"{split}/cost", self.mean_cost, on_step=False, on_epoch=True, prog_bar=True)
        if "entropy" in batch and self.hparams["cost"] != "library":
            self.mean_gap.update(weight @ values / weight.sum() - batch["entropy"], weight.sum())
            self.log(f"{split}/gap", self.mean_gap, on_step=False, on_epoch=True)

    def _evaluated(self, split: str, batch: Mapping[str, Tensor], batch_idx: int) -> tuple[Tensor, Tensor]:
        """Costs and weights; of text with the same noise in each evaluation."""
        if self._is_skip_gram and "tokens" in batch:
            cost = self._skip_gram_cost(batch, noise.keyed_generator(batch_idx, f"{split} noise"))
            return cost.total / cost.pairs.clamp(min=1), cost.pairs
        center, context, weight = self._pairs(batch)
        with torch.autocast(self.device.type, enabled=False):
            return self._costs(center, context, self._draw(batch_idx, split) if "tokens" in batch else None), weight

    def forward(self, center: Tensor, context: Tensor) -> Tensor:
        """Of items i (B,) and j (B,) the scores s(i, j), (B,); for the library minus the ways."""
        v, u = self._tables()
        if self.hparams["cost"] == "library":
            return -costs.walking_costs(v, center, context)
        return costs.pair_scores(self.hparams["cost"], v[center], u[context])

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """The vectors (B, d) of a batch's centers, or of its tokens."""
        return self._tables()[0][batch["tokens"] if "tokens" in batch else batch["center"]]

    # ---- The library ----

    def floor_plan(
        self, pairs: Mapping[str, Tensor], *, seed: int = 0, progress: shelving.Progress | None = None
    ) -> shelving.FloorPlan:
        """Where each item stands in the library, at least d_min from any other, and what that costs readers.

        Args:
            pairs: all borrowing, as one pair batch.
            seed: of the swaps and of the random arrangement that the plan is compared with.
            progress: called now and then with swaps done, swaps in all and the present cost.

        Raises:
            ValueError: fewer shelves than items.
        """
        items, vectors = self.item_vectors()
        positions, hp = vectors.double().cpu().numpy(), self.hparams
        shape = hp["shelves"]
        if shape is None and (hp["dim"] != 3 or hp["cost"] == "dot"):
            shape = places.enough_shelves(len(items))
        grid = None if shape is None else places.places(shape, hp["d_min"])
        if grid is None and hp["cost"] != "library":
            # Only distances matter to these costs. The entrance is put where most walks begin.
            positions = positions - shelving.Walks(pairs, len(items)).starts @ positions
        refining: dict[str, Any] = {"swaps": hp["swaps"], "seed": seed, "progress": progress}
        return shelving.plan_floor(items, positions, pairs, grid=grid, d_min=hp["d_min"], **refining)
