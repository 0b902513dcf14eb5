"""Standardised targets against float64 formulas, and the masked regression loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.objectives import masked_regression_loss, standardize_features, standardize_tubes_


def reference(values: Tensor, dims: tuple[int, ...], eps: float | Tensor) -> Tensor:
    values = values.double()
    deviation = values.var(dim=dims, unbiased=True, keepdim=True).sqrt()
    return (values - values.mean(dim=dims, keepdim=True)) / (deviation + eps)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("eps", [1e-6, 0.1, torch.tensor([0.1, 0.2, 0.3])[:, None, None]])
def test_tubes_are_standardised_per_tube_and_channel(eps: float | Tensor) -> None:
    tubes = random(2, 5, 3, 2, 49) * 3 + 1
    expected = reference(tubes, (-2, -1), eps)
    result = standardize_tubes_(tubes, eps)
    assert result is tubes
    torch.testing.assert_close(result.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pixels", [256, 196])
@pytest.mark.parametrize(("mean", "spread"), [(254.0, 1.0), (1.0, 1e-3), (1000.0, 0.1), (2.6, 1e-4)])
def test_nearly_constant_tubes_with_a_large_mean(mean: float, spread: float, pixels: int) -> None:
    tubes = mean + spread * random(4, 3, 2, pixels)
    expected = reference(tubes, (-2, -1), 1e-6)
    # The mean itself is known to a few float32 steps, here relative to the spread of the values.
    tolerance = 1e-5 + 4 * torch.finfo(torch.float32).eps * mean / spread
    torch.testing.assert_close(standardize_tubes_(tubes).double(), expected, atol=tolerance, rtol=1e-3)


def test_one_bright_pixel_in_a_flat_raw_tube() -> None:
    tubes = torch.full((1, 3, 2, 256), 254.0)
    tubes[..., 0, 7] = 255
    expected = reference(tubes, (-2, -1), 255e-6)
    torch.testing.assert_close(standardize_tubes_(tubes, 255e-6).double(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 200.0, 0.3])
def test_constant_tubes_become_almost_zero_and_stay_finite(value: float) -> None:
    result = standardize_tubes_(torch.full((2, 3, 2, 196), value), 255e-6 if value > 1 else 1e-6)
    assert result.abs().max() < 0.2  # a few float32 steps of the mean, over eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_are_standardised_per_clip_and_channel(dtype: torch.dtype) -> None:
    features = (random(3, 40, 6) * 2 + 5).to(dtype)
    before = features.clone()
    result = standardize_features(features)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), reference(before, (1,), 1e-6), atol=1e-5, rtol=1e-5)
    assert torch.equal(features, before)


def test_the_epsilon_of_features_is_added_to_the_deviation() -> None:
    features = random(2, 16, 4)
    result = standardize_features(features, eps=0.5)
    torch.testing.assert_close(result.double(), reference(features, (1,), 0.5), atol=1e-5, rtol=1e-5)


def test_loss_and_gradient_are_those_of_the_mean_squared_error() -> None:
    predictions, targets = random(2, 7, 5).requires_grad_(), random(2, 7, 5).flip(0).requires_grad_()
    expected = F.mse_loss(predictions.double(), targets.detach().double())
    (gradient,) = torch.autograd.grad(3 * expected, predictions)
    loss = masked_regression_loss(predictions, targets)
    (3 * loss).backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected)
    torch.testing.assert_close(predictions.grad, gradient)
    assert targets.grad is None


@pytest.mark.parametrize("autocast", [False, True])
def test_the_loss_of_half_precision_predictions_is_computed_in_float32(autocast: bool) -> None:
    predictions, targets = random(2, 7, 5).bfloat16().requires_grad_(), random(2, 7, 5).flip(0)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = masked_regression_loss(predictions, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.mse_loss(predictions.detach().float(), targets))
    assert predictions.grad is not None
    assert predictions.grad.dtype == torch.bfloat16
    expected = 2 * (predictions.detach().float() - targets) / targets.numel()
    torch.testing.assert_close(predictions.grad.float(), expected, atol=1e-4, rtol=2e-2)


def test_different_shapes_are_refused_with_both() -> None:
    with pytest.raises(ValueError, match=r"\(2, 7, 5\).*\(2, 7, 6\)"):
        masked_regression_loss(torch.zeros(2, 7, 5), torch.zeros(2, 7, 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_of_a_large_batch_is_summed_accurately(dtype: torch.dtype) -> None:
    predictions, targets = random(32, 1408, 256).to(dtype), random(1, 1408, 256) + 0.5
    targets = targets.expand(32, -1, -1)
    expected = F.mse_loss(predictions.double(), targets.double())
    torch.testing.assert_close(masked_regression_loss(predictions, targets).double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_is_that_of_the_exact_difference(dtype: torch.dtype) -> None:
    predictions, targets = random(2, 7, 5).to(dtype).requires_grad_(), random(2, 7, 5) + 0.5
    masked_regression_loss(predictions, targets).backward()
    exact = predictions.detach().double().requires_grad_()
    F.mse_loss(exact, targets.double()).backward()
    tolerance = 1e-6 if dtype == torch.float32 else 0.02
    assert predictions.grad is not None
    torch.testing.assert_close(predictions.grad.double(), exact.grad, rtol=tolerance, atol=1e-4 * tolerance)
