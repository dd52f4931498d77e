"""The contestants compute what they claim to, on equal terms; clock and memory with known answers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks import gan_step as benchmark
from benchmarks.gan_step_contestants import CONTESTANTS, Contestant, Loader, Setting, Tell, one_pass, tutorial
from benchmarks.gan_step_report import ARTICLE, BARE_ONE_PASS, ONE_PASS, TUTORIAL
from benchmarks.reporting import read_rows

N = 64
LOSSES = ["sgan", "rsgan"]
SAMPLES = {"sgan": 3 * N, "rsgan": 4 * N}
each_loss = pytest.mark.parametrize("loss", LOSSES)
each_contestant = pytest.mark.parametrize("name", CONTESTANTS)
on_linux = pytest.mark.skipif(not (benchmark.PROC / "clear_refs").exists(), reason="peak memory needs Linux")


def _small(loss: str = "sgan", **options: Any) -> Setting:
    return Setting(28, loss, width=2, **options)


def _nothing(step: int) -> None:
    """A contestant's Tell that nobody listens to."""


def _train(contestant: Contestant, setting: Setting, steps: int, tell: Tell = _nothing) -> None:
    torch.manual_seed(1)
    contestant.train(setting.loader(steps), tell)


@pytest.fixture
def optimizers() -> Iterator[list[torch.optim.Optimizer]]:
    """All optimizers that made a step, one entry a step."""
    stepped: list[torch.optim.Optimizer] = []
    handle = register_optimizer_step_post_hook(lambda self, *_: stepped.append(self))
    yield stepped
    handle.remove()


@each_loss
@each_contestant
def test_a_step_takes_so_many_samples_through_the_discriminator(name: str, loss: str) -> None:
    setting = _small(loss)
    contestant, seen = CONTESTANTS[name](setting), list[int]()
    contestant.discriminator.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    _train(contestant, setting, 1)
    # What is tried out before the first step of a fit.
    first = list(seen)
    seen.clear()
    _train(contestant, setting, 3)
    of_two_steps = seen[len(first) :]
    alternating = [N] * (SAMPLES[loss] // N)
    expected = {ARTICLE: [N] * 3, "SingleLossGAN, functional": [N] * 3, ONE_PASS: [N] * 2, BARE_ONE_PASS: [N] * 2}
    expected["one pass, bare loop, concatenated"] = [2 * N]
    assert of_two_steps == 2 * expected.get(name, alternating)


@each_contestant
def test_all_start_with_the_same_weights_and_optimize_them_alike(
    name: str, optimizers: list[torch.optim.Optimizer]
) -> None:
    setting = _small()
    contestant = CONTESTANTS[name](setting)
    trained = nn.ModuleList([contestant.generator, contestant.discriminator])
    for own, equal in zip(trained.parameters(), nn.ModuleList(setting.networks()).parameters(), strict=True):
        assert torch.equal(own, equal)
    _train(contestant, setting, 1)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    assert {type(optimizer) for optimizer in optimizers} == {torch.optim.Adam}
    settings = {(group["lr"], *group["betas"], group["eps"], group["weight_decay"]) for group in groups}
    assert settings == {(2e-4, 0.5, 0.999, 1e-8, 0)}
    # None of them chooses an implementation: torch does, for all the same one.
    assert {(group["foreach"], group["fused"]) for group in groups} == {(None, None)}
    stepped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(stepped) == sorted(id(parameter) for parameter in trained.parameters())


@each_contestant
def test_every_step_is_told_in_order(name: str) -> None:
    setting, told = _small(), list[int]()
    _train(CONTESTANTS[name](setting), setting, 3, told.append)
    assert told == [0, 1, 2, 3]


@each_contestant
def test_reduced_precision_reaches_the_discriminator(name: str) -> None:
    setting, seen = _small(precision="bf16"), set[torch.dtype]()
    contestant = CONTESTANTS[name](setting)
    contestant.discriminator.register_forward_hook(lambda _, __, scores: seen.add(scores.dtype))
    _train(contestant, setting, 2)
    # Lightning's probing before the first step is in full precision.
    assert torch.bfloat16 in seen
    assert all(parameter.dtype == torch.float32 for parameter in contestant.discriminator.parameters())


def _by_the_book(setting: Setting, steps: int) -> tuple[nn.Module, nn.Module]:
    """(G, D) trained by the loop of PyTorch's DCGAN tutorial, or by the same with RSGAN's losses."""
    net_g, net_d = setting.networks()
    optimizer_d, optimizer_g = (
        torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (net_d, net_g)
    )
    ones, zeros, bce = torch.ones(N), torch.zeros(N), binary_cross_entropy_with_logits
    torch.manual_seed(1)
    for real in setting.loader(steps):
        net_d.zero_grad()
        fake = net_g(torch.randn(N, 100))
        if setting.loss == "sgan":
            (bce(net_d(real), ones) + bce(net_d(fake.detach()), zeros)).backward()
        else:
            (-logsigmoid(net_d(real) - net_d(fake.detach())).mean()).backward()
        optimizer_d.step()
        net_g.zero_grad()
        loss_g = bce(net_d(fake), ones) if setting.loss == "sgan" else -logsigmoid(net_d(fake) - net_d(real)).mean()
        loss_g.backward()
        optimizer_g.step()
    return net_g, net_d


@each_loss
@pytest.mark.parametrize("freeze", [False, True])
def test_the_tutorial_trains_by_the_book(loss: str, freeze: bool) -> None:
    setting = _small(loss)
    contestant = tutorial(setting, freeze=freeze)
    _train(contestant, setting, 3)
    for own, book in zip((contestant.generator, contestant.discriminator), _by_the_book(setting, 3), strict=True):
        for name, value in own.state_dict().items():
            torch.testing.assert_close(value, book.state_dict()[name], rtol=1e-4, atol=1e-6)


@each_loss
def test_freezing_saves_gradients_and_changes_nothing(loss: str) -> None:
    setting = _small(loss)
    plain, freezing = (CONTESTANTS[name](setting) for name in (TUTORIAL, f"{TUTORIAL}, D frozen in G's step"))
    for contestant in (plain, freezing):
        _train(contestant, setting, 3)
    for own, other in ((plain.generator, freezing.generator), (plain.discriminator, freezing.discriminator)):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in own.state_dict().items())
    # D's gradients of G's step came on top of those of its own step (RSGAN's bias of the score has none).
    kernels = zip(_kernels(plain.discriminator), _kernels(freezing.discriminator), strict=True)
    assert not any(torch.equal(own.grad, other.grad) for own, other in kernels)


def _kernels(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.dim() > 1]


@each_loss
@pytest.mark.parametrize("concatenate", [None, True])
def test_one_pass_gives_both_players_their_own_gradients(loss: str, concatenate: bool | None) -> None:
    setting = _small(loss)
    contestant = one_pass(setting, concatenate=concatenate)
    _train(contestant, setting, 1)
    generator, discriminator = setting.networks()
    torch.manual_seed(1)
    (real,) = setting.loader(1)
    t_r, t_f = discriminator(real), discriminator(generator(torch.randn(N, 100)))
    d_loss, g_loss = -logsigmoid(t_r - t_f).mean(), -logsigmoid(t_f - t_r).mean()
    if loss == "sgan":
        d_loss, g_loss = -logsigmoid(t_r).mean() - logsigmoid(-t_f).mean(), -logsigmoid(t_f).mean()
    expected = [
        *torch.autograd.grad(d_loss, list(discriminator.parameters()), retain_graph=True),
        *torch.autograd.grad(g_loss, list(generator.parameters())),
    ]
    own = [*contestant.discriminator.parameters(), *contestant.generator.parameters()]
    for parameter, gradient in zip(own, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (64, 3)])
def test_batches_are_images_in_range_that_come_again(size: int, channels: int) -> None:
    batches = list(Setting(size, "sgan").loader(9))
    assert [batch.shape for batch in batches] == [(N, channels, size, size)] * 9
    assert len({batch.sum().item() for batch in batches}) == 8
    assert torch.equal(batches[0], batches[8])
    assert min(batch.min() for batch in batches) == -1
    assert max(batch.max() for batch in batches) == 1


def _pretended(train: Callable[[Loader, Tell], None]) -> Contestant:
    return Contestant(nn.Identity(), nn.Identity(), train)


def test_the_clock_runs_from_the_end_of_the_first_step_to_that_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def train(loader: Loader, tell: Tell) -> None:
        tell(0)
        for step, _ in enumerate(loader, 1):
            now[0] += 100.0 if step == 1 else 2.0 * step
            tell(step)
        now[0] += 50.0

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])
    loader = _small().loader(4)
    seconds, faults = benchmark.cost_per_step(_pretended(train), loader, torch.device("cpu"))
    assert seconds == (4 + 6 + 8) / 3
    assert faults >= 0


@on_linux
def test_page_faults_of_fresh_memory_are_counted() -> None:
    def train(loader: Loader, tell: Tell) -> None:
        for step, _ in enumerate(loader, 1):
            _touch(100)
            tell(step)

    _, faults = benchmark.cost_per_step(_pretended(train), _small().loader(3), torch.device("cpu"))
    # 100 MiB in pages of 4 KiB, or in huge ones of 2 MiB.
    assert 50 <= faults < 1.1 * 100 * 256


def test_a_contest_keeps_the_rounds_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[str] = []
    pretended = {name: lambda setting, name=name: _pretended(lambda *_: visited.append(name)) for name in ("a", "b")}
    monkeypatch.setattr(benchmark, "CONTESTANTS", pretended)

    def pretended_cost(contestant: Contestant, loader: Loader, device: torch.device) -> tuple[float, float]:
        contestant.train(loader, _nothing)
        return float(len(visited) * len(loader)), 7.0

    monkeypatch.setattr(benchmark, "cost_per_step", pretended_cost)
    advanced: list[None] = []
    costs = benchmark.contest(_small(), 2, 3, lambda: advanced.append(None))
    assert visited == ["a", "b"] * 3
    assert costs == {"a": [(12.0, 7.0), (20.0, 7.0)], "b": [(16.0, 7.0), (24.0, 7.0)]}
    assert len(advanced) == 6


@on_linux
def test_memory_counts_from_the_first_step_to_the_peak() -> None:
    def train(loader: Loader, tell: Tell) -> None:
        _touch(300)
        tell(0)
        _touch(100)
        tell(1)

    assert 95 < benchmark.memory_growth(_pretended(train), _small().loader(1), torch.device("cpu")) < 120


def _touch(mebibytes: int) -> Tensor:
    return torch.ones(mebibytes * 2**18)


def test_a_child_measures_the_same_setting() -> None:
    for setting in (Setting(28, "sgan", width=4), Setting(64, "rsgan", precision="bf16", compile=True)):
        assert benchmark.settings_of(benchmark.parse(benchmark._as_options(setting))) == [setting]


@pytest.mark.parametrize("option", ["--rounds", "--steps"])
def test_no_rounds_and_no_steps_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main([option, "0"])
    assert "0 must be at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_measures_all_contestants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--quick", "--losses", "rsgan", "--device", "cpu", "--out", str(tmp_path)])
    assert "images/s" in capsys.readouterr().out
    text = (tmp_path / "quick" / "gan_step.md").read_text()
    assert "these numbers mean nothing" in text
    assert "reached" not in text
    assert all(f"| {name} | " in text for name in CONTESTANTS)
    rows = read_rows(tmp_path / "quick" / "gan_step.csv")
    assert [row["contestant"] for row in rows] == list(CONTESTANTS)
    assert all(float(row["seconds_per_step"]) > 0 for row in rows)
