"""Properties of the balanced assignment (sigma.md, sections 4 and 12)."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distributed import run_processes
from tubelets.objectives import PrototypeAssignment, assign_prototypes, sinkhorn

SAMPLES, PROTOTYPES = 96, 12


def features_and_prototypes(
    samples: int = SAMPLES, prototypes: int = PROTOTYPES, width: int = 8, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features, rows = (torch.randn(count, width, generator=generator) for count in (samples, prototypes))
    return F.normalize(features, dim=1), F.normalize(rows, dim=1)


def cosines(**sizes: int) -> Tensor:
    features, prototypes = features_and_prototypes(**sizes)
    return features @ prototypes.T


def naive(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The matrix algorithm of the specification, word by word, in float64."""
    matrix = torch.exp(scores.double() / epsilon).T
    matrix = matrix / matrix.sum()
    prototypes, samples = matrix.shape
    for _ in range(iterations):
        matrix = matrix * (1 / prototypes) / matrix.sum(dim=1, keepdim=True)
        matrix = matrix * (1 / samples) / matrix.sum(dim=0, keepdim=True)
    return (matrix / matrix.sum(dim=0, keepdim=True)).T


def assert_assignments(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("iterations", [0, 1, 3, 10])
@pytest.mark.parametrize("epsilon", [0.03, 0.05, 1.0])
def test_equals_the_matrix_algorithm_in_float64(epsilon: float, iterations: int) -> None:
    expected = naive(cosines(), epsilon, iterations)
    assert_assignments(sinkhorn(cosines(), epsilon, iterations), expected, 2e-5)
    assigned = assign_prototypes(*features_and_prototypes(), epsilon, iterations)
    assert_assignments(assigned.soft(), expected, 2e-5)
    assert torch.equal(assigned.labels, expected.argmax(dim=1))


def test_sizes_that_need_several_blocks_equal_the_matrix_algorithm() -> None:
    sizes = {"samples": 1000, "prototypes": 3000, "width": 16}
    expected = naive(cosines(**sizes), 0.05, 10)
    assert_assignments(sinkhorn(cosines(**sizes)), expected, 1e-4)
    assigned = assign_prototypes(*features_and_prototypes(**sizes))
    assert_assignments(assigned.soft(), expected, 1e-4)
    assert torch.equal(assigned.labels, expected.argmax(dim=1))


@pytest.mark.parametrize("iterations", [0, 1, 10])
def test_rows_sum_to_one(iterations: int) -> None:
    assignments = sinkhorn(cosines(), 0.05, iterations)
    assert assignments.dtype == torch.float32
    assert_assignments(assignments.sum(dim=1), torch.ones(SAMPLES))


def test_usage_of_prototypes_approaches_an_equal_share() -> None:
    errors = [
        (sinkhorn(cosines(), 0.05, iterations).sum(dim=0) - SAMPLES / PROTOTYPES).abs().max().item()
        for iterations in (1, 10, 100, 1000)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.5
    assert errors[-1] < 1e-3


@pytest.mark.parametrize(("samples", "prototypes", "iterations"), [(96, 12, 200), (3000, 3, 20), (8, 64, 200)])
def test_many_iterations_stay_in_the_range_of_float32(samples: int, prototypes: int, iterations: int) -> None:
    scores = cosines(samples=samples, prototypes=prototypes)
    assert_assignments(sinkhorn(scores, 0.05, iterations), naive(scores, 0.05, iterations), 1e-4)


def test_without_iterations_it_is_a_softmax() -> None:
    assert_assignments(sinkhorn(cosines(), 0.05, 0), torch.softmax(cosines() / 0.05, dim=1))


@pytest.mark.parametrize("constant", [-3.0, 0.5, 10.0])
def test_a_constant_added_to_all_scores_changes_nothing(constant: float) -> None:
    shifted = sinkhorn((cosines().double() + constant).float())
    assert_assignments(shifted, sinkhorn(cosines()), 2e-4)  # one float32 step of 10 is 2e-5 after the division


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_of_any_precision_are_solved_in_float32(dtype: torch.dtype, autocast: bool) -> None:
    scores = cosines().to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assignments = sinkhorn(scores, 0.03)
    assert assignments.dtype == torch.float32
    assert_assignments(assignments, naive(scores, 0.03, 10))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_under_autocast_are_assigned_in_float32(dtype: torch.dtype) -> None:
    features, prototypes = (each.to(dtype) for each in features_and_prototypes())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assigned = assign_prototypes(features, prototypes)
        soft = assigned.soft()
        scores = F.linear(features, prototypes)
    assert soft.dtype == assigned.prototype_factor.dtype == torch.float32
    assert_assignments(soft, naive(scores, 0.05, 10), 1e-4)


@pytest.mark.parametrize("epsilon", [0.05, 0.01])
def test_nothing_overflows_at_the_limits_of_the_cosine(epsilon: float) -> None:
    scores = torch.where(torch.eye(6).repeat(4, 1) > 0, 1.0, -1.0)
    assert_assignments(sinkhorn(scores, epsilon), torch.eye(6).repeat(4, 1))
    prototypes = F.normalize(torch.tensor([[1.0, 0.0], [-1.0, 1e-3]]), dim=1)
    assigned = assign_prototypes(prototypes.repeat(4, 1), prototypes, epsilon)
    assert assigned.prototype_factor.isfinite().all()
    assert assigned.labels.tolist() == [0, 1] * 4
    assert_assignments(assigned.soft(), torch.eye(2).repeat(4, 1))


def test_low_scores_at_a_small_epsilon_still_balance() -> None:
    scores = cosines() / 2
    scores[::3] -= 0.5  # exp(score / 0.01) of these rows is below the float32 range when the best score maps to 1
    assert_assignments(sinkhorn(scores, 0.01), naive(scores, 0.01, 10), 1e-3)


def test_features_far_from_every_prototype_get_the_label_of_their_assignment() -> None:
    prototypes = F.normalize(torch.tensor([[1.0, 0.1, 0.0], [1.0, -0.12, 0.01], [1.0, 0.02, 0.11]]), dim=1)
    features = torch.cat([prototypes, -prototypes, -prototypes.flip(0)])
    assigned = assign_prototypes(features, prototypes, epsilon=0.01)
    expected = naive(features @ prototypes.T, 0.01, 10)
    assert torch.equal(assigned.labels, assigned.soft().argmax(dim=1))
    assert torch.equal(assigned.labels, expected.argmax(dim=1))


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_labels_are_the_argmax_of_the_assignments(epsilon: float, seed: int) -> None:
    assigned = assign_prototypes(*features_and_prototypes(seed=seed), epsilon)
    assert assigned.labels.dtype == torch.int64
    assert torch.equal(assigned.labels, assigned.soft().argmax(dim=1))


def test_inputs_are_left_as_they_are_and_no_gradient_flows() -> None:
    scores = cosines().requires_grad_()
    assert not sinkhorn(scores).requires_grad
    assert torch.equal(scores, cosines())
    features, prototypes = (each.requires_grad_() for each in features_and_prototypes())
    assigned = assign_prototypes(features, prototypes)
    assert not assigned.soft().requires_grad
    assert not assigned.scores().requires_grad
    assert_assignments(assigned.scores(), cosines())
    for each, again in zip((features, prototypes), features_and_prototypes(), strict=True):
        assert torch.equal(each, again)


@pytest.mark.parametrize(
    ("shape", "epsilon", "iterations", "named"),
    [((4, 3, 2), 0.05, 10, r"\(4, 3, 2\)"), ((4, 3), 0.0, 10, "epsilon=0.0"), ((4, 3), 0.05, -1, "iterations=-1")],
)
def test_bad_arguments_are_refused_by_value(
    shape: tuple[int, ...], epsilon: float, iterations: int, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        sinkhorn(torch.zeros(shape), epsilon, iterations)
    with pytest.raises(ValueError, match=named):
        assign_prototypes(torch.zeros(shape), torch.zeros(5, 3), epsilon, iterations)


def test_features_and_prototypes_of_different_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(5, 2\)"):
        assign_prototypes(torch.zeros(4, 3), torch.zeros(5, 2))


def solve_part(rank: int, world_size: int, features: Tensor, prototypes: Tensor) -> list[tuple[Tensor, ...]]:
    """This process's rows, in parts of unequal size, for several epsilons."""
    part = features.tensor_split([10, 50] if world_size == 3 else [37])[rank]
    found: list[tuple[Tensor, ...]] = []
    for epsilon in (0.03, 0.05):
        assigned: PrototypeAssignment = assign_prototypes(part, prototypes, epsilon)
        found.append((sinkhorn(part @ prototypes.T, epsilon), assigned.soft(), assigned.labels))
    return found


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_processes_equal_one_on_all_rows(world_size: int) -> None:
    parts = run_processes(solve_part, world_size, *features_and_prototypes())
    for index, epsilon in enumerate((0.03, 0.05)):
        expected = naive(cosines(), epsilon, 10)
        scores, soft, labels = (torch.cat([part[index][field] for part in parts]) for field in range(3))
        assert_assignments(scores, expected, 2e-5)
        assert_assignments(soft, expected, 2e-5)
        assert torch.equal(labels, expected.argmax(dim=1))
