import pytest
import torch

from callbacks.normality import sliced_ks


def normal(n: int, d: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("d", [1, 2, 64])
def test_normal_codes_are_as_near_as_a_finite_set_can_be(d: int) -> None:
    # The mean of Kolmogorov's distribution is 0.8687 / sqrt(n).
    assert 0.005 < sliced_ks(normal(4096, d)).item() < 0.03


def test_shifted_codes_have_the_distance_of_two_normal_distributions() -> None:
    # max |Phi(x) - Phi(x - 1)| = 2 Phi(1/2) - 1
    exact = 2 * torch.special.ndtr(torch.tensor(0.5)).item() - 1
    assert sliced_ks(normal(20_000, 1) + 1).item() == pytest.approx(exact, abs=0.01)


def test_known_values_of_few_codes() -> None:
    # F jumps from 0 to 1 at 0, where Phi is 1/2; far out, Phi is 1 where F is still 0.
    assert sliced_ks(torch.zeros(10, 3)).item() == pytest.approx(0.5)
    assert sliced_ks(torch.full((10, 1), 100.0)).item() == pytest.approx(1)
    quantiles = torch.special.ndtri(torch.tensor([[0.25], [0.75]], dtype=torch.float64))
    assert sliced_ks(quantiles).item() == pytest.approx(0.25)


def test_the_order_of_codes_and_the_random_state_do_not_matter() -> None:
    codes = normal(500, 5) * 2
    first = sliced_ks(codes)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert torch.equal(sliced_ks(codes.flip(0)), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert sliced_ks(codes, directions=3) != first


def test_a_collapsed_dimension_is_seen_in_the_mean_of_directions() -> None:
    codes = normal(4096, 2)
    assert sliced_ks(codes * torch.tensor([1.0, 0.0])) > 5 * sliced_ks(codes)


def test_it_is_the_mean_over_directions() -> None:
    """Codes moved by 1 along an axis are moved by |cos| of the angle along a direction."""
    angles = torch.linspace(0, torch.pi, 10_001, dtype=torch.float64)
    distances = 2 * torch.special.ndtr(angles.cos().abs() / 2) - 1
    # 0.24 on average, 0.38 at most.
    moved = sliced_ks(normal(20_000, 2) + torch.tensor([1.0, 0.0])).item()
    assert moved == pytest.approx(distances.mean().item(), abs=0.03)


def test_nan_stays_nan_and_wrong_shapes_are_refused() -> None:
    assert sliced_ks(torch.tensor([[0.0, torch.nan], [1.0, 2.0]])).isnan()
    for shape in ((3,), (0, 2), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"takes codes \(n, d\)"):
            sliced_ks(torch.zeros(shape))
