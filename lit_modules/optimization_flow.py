"""Article 3: optimization algorithms as dynamics III, a more holistic view (Scientific Spaces, 2019-01-08).

Let the parameters theta(t) move in any way. Then the chain rule says how the loss moves, and any theta' that makes this
negative is an optimization algorithm; gradient descent is only one of them:

    dL/dt = <grad L, theta'>,      Euler's method:  theta_(n+1) = theta_n + h theta'_n,  t_n = n h

``parts.flows`` has the article's flows as optimizers, for this and any other module. Here they are watched: at each
step of size h this module logs L, |grad L|, dL/dt as it was (L_(n+1) - L_n) / h and as the chain rule predicts it,
<grad L, theta_(n+1) - theta_n> / h, whatever the optimizer. On a test function also how far theta_n is from theta(t_n)
on the exact trajectory. What is trained is a test function of a few variables or any network.

Run it:     python run.py fit --config configs/optimization_flow.yaml
Expect:     the article's experiment: x starts at 4, stays at the local minimum 3 for a while, jumps out of it and ends
            at the global minimum, val/theta_0 = 0.407. With configs/optimization_flow_gradient.yaml it ends at 3.000.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from lit_modules.parts import optimizers
from lit_modules.parts.adversarial import check_name
from lit_modules.parts.base import BaseModule
from lit_modules.parts.distributed import mean_over_ranks
from lit_modules.parts.replay import RandomState
from lit_modules.parts.step_log import log_training_step
from lit_modules.parts.test_functions import TEST_FUNCTIONS
from lit_modules.parts.trajectories import Trajectory, trajectory_of


@dataclass
class _Evaluation:
    """A batch on which the loss was evaluated before a step."""

    batch: Any
    random_state: RandomState
    loss: Tensor


class OptimizationFlow(BaseModule):
    """Follows the flow of an optimizer on a test function or a network, and compares dL/dt with its prediction.

    A test function needs no data: use ``StepsDataModule``, or any other, whose batches are ignored. A network takes
    batches (inputs, targets). All logged values belong to the beginning of a step, under accumulation to all of its
    batches. A network's loss after the step is that of the same batch, dropout mask and batch-norm buffers, for which
    there is one more forward pass at each step that is logged (``trainer.log_every_n_steps``), not at the others.

    Args:
        function: "quartic" (the article's, the default), "quadratic", "rosenbrock" or "himmelblau"; not with a network.
        start: where theta starts; where the function is usually started from by default.
        optimizer: GradientFlow, SignFlow, ScalarRMSprop, LossGuidedFlow, DampedFlow, or the class path of any other.
        optimizer_args: its further arguments, such as max_ratio, the article's M.
        learning_rate: step size h.
        compile: torch.compile the network; not with a test function.
        network: a network of your own, inputs to outputs. Networks passed from Python are not saved as
            hyper-parameters: pass them to ``load_from_checkpoint`` again.
        loss: outputs and targets to a scalar; by default the cross entropy of scores (B, classes) and classes (B,).

    Raises:
        ValueError: an unknown name or an impossible value, naming it and the nearest right one.
    """

    origin: Tensor

    def __init__(
        self,
        function: str | None = None,
        start: Sequence[float] | None = None,
        optimizer: str = "GradientFlow",
        optimizer_args: dict[str, Any] | None = None,
        learning_rate: float = 0.01,
        compile: bool = False,
        network: nn.Module | None = None,
        loss: nn.Module | None = None,
    ) -> None:
        super().__init__()
        start = None if start is None else [float(x) for x in start]
        self.keep_hyperparameters("network", "loss")
        self._optimizer_args = optimizers.optimizer_arguments(optimizer, [], optimizer_args or {})
        self.network, self.loss = network, loss
        if network is None:
            self._take_function(function or "quartic", start)
        elif function is not None or start is not None:
            raise ValueError("function and start belong to a test function: leave them out with a network")
        self._trajectory: Trajectory | None = None
        self._evaluations: dict[int, _Evaluation] = {}
        self._before: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self._point: dict[str, Any] | None = None

    def _take_function(self, name: str, start: Sequence[float] | None) -> None:
        check_name("function", name, tuple(TEST_FUNCTIONS))
        if self.loss is not None:
            raise ValueError("loss belongs to a network: leave it out with a test function")
        if self.hparams["compile"]:
            raise ValueError("compile belongs to a network: leave it out with a test function")
        self._function: Callable[[Tensor], Tensor] = TEST_FUNCTIONS[name].value
        usual = TEST_FUNCTIONS[name].start
        if start is not None and len(start) != len(usual):
            raise ValueError(f"start={list(start)} has {len(start)} numbers, function={name!r} takes {len(usual)}")
        # Double precision: Euler's error is to be seen, not that of rounding.
        self.theta = nn.Parameter(torch.tensor(start or usual, dtype=torch.float64))
        self.register_buffer("origin", self.theta.detach().clone())

    # ---- The loss ----

    def forward(self, x: Tensor) -> Tensor:
        """The network's outputs, or the test function at theta = x, (d,) to a scalar."""
        return self._function(x) if self.network is None else self.network(x)

    def _loss(self, batch: Any, network: Callable[[Tensor], Tensor] | None) -> Tensor:
        if network is None:
            return self._function(self.theta)
        x, targets = _inputs_and_targets(batch)
        return (self.loss or cross_entropy)(network(x), targets)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """L (scalar) of a batch, or of theta."""
        if not self._is_watched():
            return self._loss(batch, self.network)
        random_state = RandomState(self.device)
        loss = self._loss(batch, self.network)
        # An optimizer that evaluates the loss several times in a step does it at theta_n first.
        self._evaluations.setdefault(batch_idx, _Evaluation(batch, random_state, loss.detach()))
        return loss

    # ---- Around one step of the optimizer ----

    def _is_watched(self) -> bool:
        """Whether dL/dt is measured at this step: always on a test function, with a network where it is logged."""
        interval = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return self.network is None or bool(interval and (self.trainer.global_step + 1) % interval == 0)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Keep theta_n and its gradient: before clipping, and free of fp16's loss scale."""
        if self._is_watched() and not self._before:
            moving = [parameter for parameter in self.parameters() if parameter.grad is not None]
            self._before = [(p, p.detach().clone(), p.grad.clone()) for p in moving if p.grad is not None]

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Step, and log what the step did."""
        watched = self._is_watched()
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        evaluations, self._evaluations = list(self._evaluations.values()), {}
        before, self._before = self._before, []
        if watched and before:
            self._log_step(evaluations, before, float(optimizer.param_groups[0]["lr"]))

    @torch.no_grad()
    def _log_step(
        self, evaluations: list[_Evaluation], before: list[tuple[nn.Parameter, Tensor, Tensor]], h: float
    ) -> None:
        # Lightning divides by this number, also for an epoch's last, smaller window.
        windows = self.trainer.accumulate_grad_batches
        loss = torch.stack([evaluation.loss for evaluation in evaluations]).sum() / windows
        after = torch.stack([self._loss_again(evaluation) for evaluation in evaluations]).sum() / windows
        moved = torch.stack([(gradient * (p - old)).sum() for p, old, gradient in before]).sum()
        values = {
            "train/loss": loss,
            "train/grad_norm": nn.utils.get_total_norm([gradient for _, _, gradient in before]),
            "train/dloss_dt": (after - loss) / h,
            "train/dloss_dt_predicted": moved / h,
        }
        # Lightning counts the step only after this hook.
        number = self.trainer.global_step
        self._point = {"step": number, "time": number * h}
        if self.network is None:
            values |= self._compare_with_trajectory(number, before[0][1])
        means = dict(zip(values, mean_over_ranks(torch.stack(list(values.values()))), strict=True))
        self._point |= {name.removeprefix("train/"): mean.item() for name, mean in means.items()}
        log_training_step(self, means, in_bar=("loss", "dloss_dt"))

    def _loss_again(self, evaluation: _Evaluation) -> Tensor:
        """The loss of an evaluation where theta is now, with all else as it was then."""
        network = self.network
        if network is None:
            return self._loss(evaluation.batch, None)
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        with evaluation.random_state.replayed(), self.trainer.precision_plugin.train_step_context():
            return self._loss(evaluation.batch, lambda x: functional_call(network, buffers, (x,)))

    def on_fit_start(self) -> None:
        """Train in training mode; compile the network if asked to."""
        super().on_fit_start()
        if self.network is not None:
            self.compile_if_asked(self.network)

    # ---- Test functions: the trajectory ----

    def on_train_start(self) -> None:
        """Make the trajectory, from where a run of its own starts, or from where a resumed one did."""
        self._evaluations, self._before, self._point, self._trajectory = {}, [], None, None
        if self.network is None:
            if self.trainer.global_step == 0:
                self.origin.copy_(self.theta.detach())
            self._trajectory = trajectory_of(self.trainer.optimizers[0], self._function, self.origin)

    def _compare_with_trajectory(self, number: int, theta: Tensor) -> dict[str, Tensor]:
        assert self._point is not None
        self._point["theta"] = theta.tolist()
        if self._trajectory is None:
            return {}
        exact = torch.as_tensor(self._trajectory.at(number)).to(theta)
        self._point |= {"ode_theta": exact.tolist(), "ode_loss": self._function(exact).item()}
        return {"train/ode_distance": torch.linalg.vector_norm(theta - exact)}

    def flow_point(self) -> dict[str, Any] | None:
        """What was measured at the last step that was watched; None before the first one.

        "step" n, "time" t_n, "loss", "grad_norm", "dloss_dt" and "dloss_dt_predicted"; on a test function "theta" (a
        list), and "ode_theta", "ode_loss" and "ode_distance" if the optimizer follows a trajectory that is known.
        """
        return self._point

    # ---- Evaluation ----

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log val/loss; the components val/theta_0, ... on a test function, or val/accuracy of a classifier."""
        self._log_loss("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log the same as validation, under test/."""
        self._log_loss("test", batch)

    def _log_loss(self, split: str, batch: Any) -> None:
        values = {"loss": self._loss(batch, self.network)}
        size = 1
        if self.network is None:
            values |= {f"theta_{i}": x for i, x in enumerate(self.theta.detach())}
        else:
            x, targets = _inputs_and_targets(batch)
            size = len(x)
            if self.loss is None:
                values["accuracy"] = (self.network(x).argmax(dim=1) == targets).float().mean()
        logged = {f"{split}/{name}": value for name, value in values.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, sync_dist=True, batch_size=size)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The network's outputs on a batch, or theta (d,)."""
        return self.theta.detach() if self.network is None else self.network(_inputs_and_targets(batch)[0])

    def configure_optimizers(self) -> Optimizer:
        """The optimizer over theta, or over the network's parameters."""
        groups: dict[str, tuple[nn.Module, float]] = {"theta": (self, self.hparams["learning_rate"])}
        return optimizers.build_optimizer(groups, self.hparams["optimizer"], self._optimizer_args)


def _inputs_and_targets(batch: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise ValueError(f"a network needs batches (inputs, targets), this one is a {type(batch).__name__}")
    return batch[0], batch[1]
