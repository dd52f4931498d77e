"""Each kind against its definition, in numbers."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from weight_norms import CONSTRAINTS, KINDS, spectral_norm, unit_norms

SHAPES = [(6, 4), (4, 6), (6, 4, 3, 3), (6,)]


def weight_of(shape: tuple[int, ...], scale: float = 3.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64) * scale


def matrix_of(weight: Tensor, dim: int) -> Tensor:
    return weight.transpose(0, dim).flatten(1)


@pytest.mark.parametrize("dim", [0, 1])
def test_measures_against_torch(dim: int) -> None:
    weight = weight_of((6, 4, 3, 3))
    torch.testing.assert_close(spectral_norm(weight, dim), torch.linalg.svdvals(matrix_of(weight, dim))[0])
    torch.testing.assert_close(unit_norms(weight, dim).flatten(), matrix_of(weight, dim).norm(dim=1))
    assert unit_norms(weight, dim).shape == ((6, 1, 1, 1) if dim == 0 else (1, 4, 1, 1))


def test_spectral_norm_of_a_vector_is_that_of_the_diagonal_matrix() -> None:
    gamma = torch.tensor([0.5, -2.0, 1.0])
    assert spectral_norm(gamma) == spectral_norm(torch.diag(gamma)) == 2
    torch.testing.assert_close(KINDS["spectral"](gamma, 0)(gamma), gamma / 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_units_have_their_norms(shape: tuple[int, ...]) -> None:
    for dim in range(min(2, len(shape))):
        weight = weight_of(shape, 1.0)
        norms = unit_norms(weight, dim)
        torch.testing.assert_close(unit_norms(KINDS["l2"](weight, dim)(weight), dim), torch.ones_like(norms))
        limited = KINDS["max_norm"](weight, dim, 1.5)(weight)
        torch.testing.assert_close(unit_norms(limited, dim), norms.clamp_max(1.5))


def test_centered_is_weight_standardization() -> None:
    for dim in (0, 1):
        weight = weight_of((6, 4, 3, 3))
        units = matrix_of(KINDS["centered"](weight, dim)(weight), dim)
        torch.testing.assert_close(units.mean(1), torch.zeros_like(units[:, 0]), atol=1e-12, rtol=0)
        torch.testing.assert_close(units.var(1, correction=0), torch.ones_like(units[:, 0]), atol=1e-9, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_constraints_hold_and_leave_alone_what_satisfies_them(shape: tuple[int, ...]) -> None:
    weight = weight_of(shape)

    def constrained(kind: str, *arguments: float) -> Tensor:
        constraint = CONSTRAINTS[kind](weight, 0, *arguments)
        once = constraint(weight)
        torch.testing.assert_close(constraint(once), once, rtol=1e-12, atol=0)
        return once

    torch.testing.assert_close(spectral_norm(constrained("spectral", 1.5)).item(), 1.5)
    torch.testing.assert_close(constrained("spectral", 1e3), weight)
    torch.testing.assert_close(constrained("clip", 0.5), weight.sign() * weight.abs().clamp_max(0.5))
    assert torch.equal(constrained("non_negative"), functional.relu(weight))
    assert unit_norms(constrained("max_norm", 0.5), 0).max() <= 0.5 + 1e-12
    torch.testing.assert_close(unit_norms(constrained("unit_norm"), 0), torch.ones_like(unit_norms(weight, 0)))


def test_the_articles_iteration_by_hand() -> None:
    """As in the article's Keras code: the kernel (in, out), u of ones over the inputs, 5 rounds."""
    kernel = weight_of((4, 6))
    u = torch.ones(1, 4, dtype=torch.float64)
    for _ in range(5):
        v = functional.normalize(u @ kernel)
        u = functional.normalize(v @ kernel.T)
    sigma = (u @ kernel @ v.T).item()
    weight = kernel.T
    torch.testing.assert_close(KINDS["spectral_article"](weight, 0)(weight), weight / sigma)


def test_the_articles_iteration_has_no_state_and_gives_gradients() -> None:
    weight = weight_of((3, 4)).requires_grad_()
    article = KINDS["spectral_article"](weight, 0)
    assert not list(article.state_dict())
    assert torch.equal(article(weight), article(weight))
    assert torch.autograd.gradcheck(article, weight)
    # sigma is homogeneous: no first-order change along the weight itself.
    (gradient,) = torch.autograd.grad(article(weight).square().sum(), weight)
    torch.testing.assert_close((gradient * weight).sum().item(), 0.0, atol=1e-10, rtol=0)


def test_how_far_the_articles_norm_is_off() -> None:
    """5 iterations from ones on 100 random matrices 256 x 256: 6 to 7 % too small on average, 9 to 13 % at worst."""
    generator = torch.Generator().manual_seed(0)
    short = []
    for _ in range(100):
        weight = torch.randn(256, 256, generator=generator)
        short.append(1 - 1 / spectral_norm(KINDS["spectral_article"](weight, 0)(weight)).item())
    assert 0.06 < sum(short) / len(short) < 0.07
    assert 0.09 < max(short) < 0.13
    assert min(short) > 0


def test_the_articles_rule_for_a_vector_shrinks_it_too_much() -> None:
    """By |gamma| / max |gamma_i|: at 128 channels 11.3 at the start, when all are 1, and about 8 later."""
    ones = torch.ones(128)
    torch.testing.assert_close(KINDS["spectral_article"](ones, 0)(ones), ones / 128**0.5)
    gamma = 1 + 0.18 * torch.randn(128, generator=torch.Generator().manual_seed(0))
    right, article = (KINDS[kind](gamma, 0)(gamma) for kind in ("spectral", "spectral_article"))
    torch.testing.assert_close(right.abs().max().item(), 1.0)
    torch.testing.assert_close(article, gamma / gamma.norm())
    assert 7 < (right / article).mean() < 9


def test_the_persistent_iteration_is_torchs() -> None:
    """Its numbers, names of buffers and random draws, so that older checkpoints load."""
    layers = []
    for ours in (True, False):
        torch.manual_seed(0)
        layer = nn.ConvTranspose2d(4, 6, 3)
        if ours:
            kind = KINDS["spectral"](layer.weight.detach(), 1, 2)
            nn.utils.parametrize.register_parametrization(layer, "weight", kind)
        else:
            parametrizations.spectral_norm(layer, n_power_iterations=2)
        layer(torch.randn(1, 4, 5, 5)).sum().backward()
        layers.append(layer)
    states = [layer.state_dict() for layer in layers]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(kind: str, dtype: torch.dtype) -> None:
    wide = weight_of((6, 4)).float()
    norm = KINDS[kind](wide, 0)
    # Under autocast nothing is computed in half precision.
    with torch.autocast("cpu", dtype):
        norm.eval()
        found = norm(wide)
    torch.testing.assert_close(found, norm(wide))
    assert found.dtype == torch.float32
    half = norm.to(dtype)(wide.to(dtype))
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), found, rtol=0.03, atol=0.01)


def test_the_persistent_iteration_leaves_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU torch.mv would be computed in half precision there."""
    seen, mv = [], torch.mv

    def noting(*arguments: Tensor) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return mv(*arguments)

    norm = KINDS["spectral"](weight_of((6, 4)).float(), 0)
    monkeypatch.setattr(torch, "mv", noting)
    with torch.autocast("cpu", torch.bfloat16):
        norm(weight_of((6, 4)).float())
    assert seen == [False] * 3


@pytest.mark.parametrize("kind", ["spectral_article", "l2", "max_norm"])
def test_zeros_stay_zeros_with_finite_gradients(kind: str) -> None:
    weight = torch.zeros(3, 4, requires_grad=True)
    normalized = KINDS[kind](weight.detach(), 0)(weight)
    normalized.sum().backward()
    assert torch.equal(normalized, torch.zeros(3, 4))
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    assert weight.grad.abs().max() < 10


@pytest.mark.parametrize(
    ("kind", "weight", "arguments", "message"),
    [
        ("spectral", torch.zeros(3, 4), {}, "all zeros"),
        ("spectral", torch.ones(3, 4), {"n_power_iterations": 0}, "n_power_iterations=0 must be at least 1"),
        ("spectral_article", torch.ones(3, 4), {"n_power_iterations": 0}, "n_power_iterations=0 must be at least 1"),
        ("max_norm", torch.ones(3, 4), {"max_norm": -1.0}, "max_norm=-1.0 must be positive"),
        ("max_norm", torch.ones(3, 4), {"max_norm": float("nan")}, "max_norm=nan must be positive"),
        ("centered", torch.ones(3), {}, "centered needs at least two"),
    ],
)
def test_bad_arguments(kind: str, weight: Tensor, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KINDS[kind](weight, 0, **arguments)
