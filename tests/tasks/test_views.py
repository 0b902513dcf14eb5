from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tubelets.data.modalities.specs import VideoSpec
from tubelets.data.transforms.spatial import normalize
from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig
from tubelets.models.backbones.video_vit.modeling_video_vit import TubeletsVideoMAEForVideoClassification
from tubelets.tasks.classification.video_batches import VideoBatch
from tubelets.tasks.views import merge_views, score_batches

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
ARGUMENTS = VideoBatch("pixel_values", VideoSpec(2, (16, 16), 3, MEAN, STD), torch.device("cpu")).arguments


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    config = TubeletsVideoMAEConfig(
        image_size=16, patch_size=8, num_frames=2, drop_path_rate=0.5, head_init_scale=50.0, num_labels=4, **sizes
    )
    return TubeletsVideoMAEForVideoClassification(config).train()


CLIPS = torch.randint(256, (6, 3, 2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
NAMES = ["b", "a", "c"]


def batches(size: int, labels: Tensor | None = None) -> Iterator[dict[str, Any]]:
    """Three videos with two clips each and three crops of a clip."""
    truth = torch.tensor([1, 0, 3]) if labels is None else labels
    for first in range(0, 6, size):
        places = range(first, min(first + size, 6))
        yield {
            "pixel_values": CLIPS[list(places)],
            "labels": truth[[place // 2 for place in places]],
            "clip_ids": [NAMES[place // 2] for place in places],
        }


def by_hand(model: PreTrainedModel, place: int) -> Tensor:
    model.eval()
    with torch.no_grad():
        logits = model(normalize(CLIPS[place], MEAN, STD)).logits
    model.train()
    return logits


def test_probabilities_are_averaged_over_clips_and_crops(model: PreTrainedModel) -> None:
    found = score_batches(model, batches(2), ARGUMENTS)
    assert model.training, "the mode is restored"
    assert found.clip_ids == ["a", "b", "c"]
    assert found.labels.tolist() == [0, 1, 3]
    assert found.num_views == 6
    for row, video in zip(found.scores, (1, 0, 2), strict=True):
        views = torch.cat([by_hand(model, 2 * video), by_hand(model, 2 * video + 1)])
        torch.testing.assert_close(row, views.softmax(dim=1).mean(dim=0))
        # Averaging logits would be something else.
        assert not torch.allclose(row, views.mean(dim=0).softmax(dim=0), atol=1e-4)


@pytest.mark.parametrize(("size", "clips_per_forward"), [(1, 1), (4, 2), (6, 100)])
def test_batches_do_not_matter(model: PreTrainedModel, size: int, clips_per_forward: int) -> None:
    expected = score_batches(model, batches(2), ARGUMENTS)
    found = score_batches(model, batches(size), ARGUMENTS, clips_per_forward=clips_per_forward)
    torch.testing.assert_close(found.scores, expected.scores)


def test_several_labels_take_the_highest_view(model: PreTrainedModel) -> None:
    truth = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]])
    found = score_batches(model, batches(2, truth), ARGUMENTS, merge="max")
    views = torch.cat([by_hand(model, 0), by_hand(model, 1)])
    torch.testing.assert_close(found.scores[1], views.sigmoid().amax(dim=0))
    assert set(found.metrics()) == {"mean_average_precision", "num_videos", "num_views"}


def test_metrics_of_a_test(model: PreTrainedModel) -> None:
    metrics = score_batches(model, batches(2), ARGUMENTS).metrics()
    assert set(metrics) == {"top_1", "top_5", "mean_class_accuracy", "num_videos", "num_views"}
    assert metrics["top_5"] == 1.0
    assert metrics["top_1"] in (0.0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0)


def test_views_of_one_dimension_less(model: PreTrainedModel) -> None:
    single = [{**batch, "pixel_values": batch["pixel_values"][:, 0]} for batch in batches(2)]
    assert score_batches(model, single, ARGUMENTS).num_views == 2


def test_bad_tests_are_refused(model: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="no video was scored"):
        score_batches(model, [], ARGUMENTS)
    with pytest.raises(ValueError, match="merge must be"):
        merge_views(torch.zeros(2, 2), "median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="clips_per_forward"):
        score_batches(model, [], ARGUMENTS, clips_per_forward=0)
    uneven = list(batches(2))[:2]
    uneven[1] = {name: value[:1] for name, value in uneven[1].items()}
    with pytest.raises(ValueError, match=r"\[3, 6\] views"):
        score_batches(model, uneven, ARGUMENTS)
    twice = list(batches(2))
    twice[1]["clip_ids"] = ["b", "b"]
    with pytest.raises(ValueError, match="'b' occurs with two labels"):
        score_batches(model, twice, ARGUMENTS)


class TwoInputs(torch.nn.Module):
    """Scores are the sum of what is heard and what is seen."""

    def forward(self, heard: Tensor, seen: Tensor) -> Any:
        return SimpleNamespace(logits=heard + seen)


@pytest.mark.parametrize("clips_per_forward", [1, 2, 8])
def test_a_model_of_several_inputs(clips_per_forward: int) -> None:
    heard, seen = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3).repeat(2, 1)
    names = ["a", "b", "c", "a", "b", "c"]
    given = [
        {"rows": [0, 1, 2, 3], "labels": torch.eye(3)[[0, 1, 2, 0]], "clip_ids": names[:4]},
        {"rows": [4, 5], "labels": torch.eye(3)[[1, 2]], "clip_ids": names[4:]},
    ]
    network: Any = TwoInputs()
    found = score_batches(
        network,
        given,
        lambda batch: {"heard": heard[batch["rows"]], "seen": seen[batch["rows"]]},
        clips_per_forward=clips_per_forward,
    )
    expected = (heard + seen).sigmoid().view(2, 3, 3).mean(dim=0)
    torch.testing.assert_close(found.scores, expected)
    assert (found.clip_ids, found.num_views) == (["a", "b", "c"], 2)
    assert 0 < found.metrics()["mean_average_precision"] <= 1
