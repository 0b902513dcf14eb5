"""Properties of the balanced assignment (sigma.md, sections 4 and 12)."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distributed import run_processes
from tubelets.objectives import sinkhorn, solve_sinkhorn

SAMPLES, PROTOTYPES = 96, 12


def cosines(samples: int = SAMPLES, prototypes: int = PROTOTYPES, width: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(samples, width, generator=generator), dim=1)
    return features @ F.normalize(torch.randn(prototypes, width, generator=generator), dim=1).T


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
    scores = cosines()
    expected = naive(scores, epsilon, iterations)
    assert_assignments(sinkhorn(scores, epsilon, iterations), expected, 2e-5)
    assert torch.equal(solve_sinkhorn(scores, epsilon, iterations).labels, expected.argmax(dim=1))


@pytest.mark.parametrize("iterations", [0, 1, 10])
def test_rows_sum_to_one(iterations: int) -> None:
    assignments = sinkhorn(cosines(), 0.05, iterations)
    assert assignments.dtype == torch.float32
    assert_assignments(assignments.sum(dim=1), torch.ones(SAMPLES))


def test_usage_of_prototypes_approaches_an_equal_share() -> None:
    scores = cosines()
    errors = [
        (sinkhorn(scores, 0.05, iterations).sum(dim=0) - SAMPLES / PROTOTYPES).abs().max().item()
        for iterations in (0, 1, 10, 100, 1000)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1
    assert errors[-1] < 1e-3


def test_without_iterations_it_is_a_softmax() -> None:
    scores = cosines()
    assert_assignments(sinkhorn(scores, 0.05, 0), torch.softmax(scores / 0.05, dim=1))


@pytest.mark.parametrize("constant", [-3.0, 0.5, 10.0])
def test_a_constant_added_to_all_scores_changes_nothing(constant: float) -> None:
    scores = cosines().double()  # the sum is rounded in float64, not in float32
    expected = solve_sinkhorn(scores.float())
    shifted = solve_sinkhorn((scores + constant).float())
    assert_assignments(shifted.assignments(), expected.assignments(), 2e-4)  # one float32 step of 10 / 0.05 is 2e-5
    assert torch.equal(shifted.labels, expected.labels)


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_scores_are_solved_in_float32(autocast: bool) -> None:
    scores = cosines().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        solution = solve_sinkhorn(scores, 0.03)
        assignments = solution.assignments()
    assert assignments.dtype == solution.prototype_scale.dtype == torch.float32
    assert_assignments(assignments, naive(scores, 0.03, 10))


@pytest.mark.parametrize("autocast", [False, True])
def test_float32_scores_keep_their_precision(autocast: bool) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assignments = sinkhorn(cosines(), 0.05)
    assert_assignments(assignments, naive(cosines(), 0.05, 10))


@pytest.mark.parametrize("epsilon", [0.05, 0.01])
def test_nothing_overflows_at_the_limits_of_the_cosine(epsilon: float) -> None:
    scores = torch.where(torch.eye(6).repeat(4, 1) > 0, 1.0, -1.0)
    solution = solve_sinkhorn(scores, epsilon)
    assert_assignments(solution.assignments(), torch.eye(6).repeat(4, 1))
    assert solution.prototype_scale.isfinite().all()
    assert solution.labels.tolist() == [0, 1, 2, 3, 4, 5] * 4


def test_samples_far_from_every_prototype_get_the_label_of_their_assignment() -> None:
    scores = cosines()
    scores[::3] -= 1.0  # at epsilon = 0.01 these rows lie below the float32 range when the best score maps to 1
    solution = solve_sinkhorn(scores, 0.01)
    assert_assignments(solution.assignments(), naive(scores, 0.01, 10), 1e-3)
    assert torch.equal(solution.labels, solution.assignments().argmax(dim=1))


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_labels_are_the_argmax_of_the_assignments(epsilon: float, seed: int) -> None:
    solution = solve_sinkhorn(cosines(seed=seed), epsilon)
    assert solution.labels.dtype == torch.int64
    assert torch.equal(solution.labels, solution.assignments().argmax(dim=1))


def test_scores_are_left_as_they_are_and_no_gradient_flows() -> None:
    scores = cosines().requires_grad_()
    before = scores.detach().clone()
    solution = solve_sinkhorn(scores)
    assert torch.equal(scores, before)
    assert not solution.assignments().requires_grad
    assert not solution.prototype_scale.requires_grad


@pytest.mark.parametrize(
    ("shape", "epsilon", "iterations", "named"),
    [((4, 3, 2), 0.05, 10, r"\(4, 3, 2\)"), ((4, 3), 0.0, 10, "epsilon=0.0"), ((4, 3), 0.05, -1, "iterations=-1")],
)
def test_bad_arguments_are_refused_by_value(
    shape: tuple[int, ...], epsilon: float, iterations: int, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        solve_sinkhorn(torch.zeros(shape), epsilon, iterations)


def solve_part(rank: int, world_size: int, scores: Tensor) -> list[tuple[Tensor, Tensor]]:
    """This process's rows, in parts of unequal size, for several epsilons."""
    part = scores.tensor_split([10, 50] if world_size == 3 else [37])[rank]
    solutions = [solve_sinkhorn(part, epsilon) for epsilon in (0.03, 0.05)]
    return [(solution.assignments(), solution.labels) for solution in solutions]


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_processes_equal_one_on_all_rows(world_size: int) -> None:
    scores = cosines()
    parts = run_processes(solve_part, world_size, scores)
    for index, epsilon in enumerate((0.03, 0.05)):
        expected = solve_sinkhorn(scores, epsilon)
        assert_assignments(torch.cat([part[index][0] for part in parts]), expected.assignments())
        assert torch.equal(torch.cat([part[index][1] for part in parts]), expected.labels)
