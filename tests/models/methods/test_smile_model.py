"""What only SMILE does: two masks that share a teacher, and a second stage that goes on from the first."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from tubelets import SmileConfig, SmileForPreTraining
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.methods.smile.conversion_smile import (
    load_official,
    teacher_from_official,
    teacher_to_official,
    to_official,
)
from tubelets.models.methods.smile.processing_smile import SmileCollator

SIZES: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_frames": 4, "hidden_size": 32, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "intermediate_size": 48, "mask_ratio": 0.5, "objects": "shapes"}
SIZES |= {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
SIZES |= {"decoder_intermediate_size": 32}
PIXELS = SIZES | {"target_type": "pixel"}


def batch(config: SmileConfig, clips: int = 4) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    shape = (config.num_frames, 3, 32, 32)
    videos = torch.randint(256, (clips, *shape), dtype=torch.uint8, generator=generator)
    return SmileCollator(config)([{"pixel_values": video, "seed": seed} for seed, video in enumerate(videos)])


def test_two_masks_are_two_batches_with_one_teacher_pass() -> None:
    config = SmileConfig(**SIZES, teacher_hidden_size=12, teacher="transformers:none")
    torch.manual_seed(0)
    model, given, calls = SmileForPreTraining(config), batch(config), []
    features = torch.randn(4, config.num_tokens, 12)

    def teach(pixel_values: Tensor) -> Tensor:
        calls.append(len(pixel_values))
        return features

    model.teacher_features = teach  # type: ignore[method-assign]
    both = model(**given)
    assert calls == [4]
    masks, videos = given["bool_masked_pos"], given["pixel_values"]
    parts = [model(videos, masks[:, number], target_features=features) for number in (0, 1)]
    torch.testing.assert_close(both.logits, torch.cat([part.logits for part in parts]))
    torch.testing.assert_close(both.targets, torch.cat([part.targets for part in parts]))
    torch.testing.assert_close(both.loss, (parts[0].loss + parts[1].loss) / 2)


def test_the_second_stage_begins_with_the_first_ones_predictions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = SmileForPreTraining(SmileConfig(**PIXELS))
    first.save_pretrained(tmp_path)
    config = SmileConfig(**PIXELS, num_objects=0, mask_type="tube")
    second = SmileForPreTraining.from_pretrained(tmp_path, config=config)
    assert second.config.mask_type == "tube"
    given = batch(config)
    assert torch.equal(second(**given).logits, first(**given).logits)


def test_a_few_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    config = SmileConfig(**PIXELS)
    model, given = SmileForPreTraining(config), batch(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = model(**given).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_masks_of_another_number_of_clips_are_refused() -> None:
    config = SmileConfig(**PIXELS)
    given = batch(config)
    with pytest.raises(ValueError, match=r"bool_masked_pos has shape \(6, 32\), expected \(8, 32\)"):
        SmileForPreTraining(config)(given["pixel_values"], given["bool_masked_pos"][:3])


def test_an_official_file_is_read_with_its_target_and_ratio(tmp_path: Path) -> None:
    clip = SmileForPreTraining(SmileConfig(**{**SIZES, "hidden_size": 64, "num_attention_heads": 1}))
    torch.save({"model": to_official(clip), "epoch": 3}, tmp_path / "official.pth")
    sizes = {"num_frames": 4, "image_size": 32, "decoder_num_attention_heads": 2}
    loaded = load_official(tmp_path / "official.pth", **sizes)
    assert (loaded.config.target_type, loaded.config.mask_ratio) == ("clip", 0.8)
    assert all(torch.equal(value, clip.state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("drop", ["conv1.weight", "ln_post.bias", "transformer.resblocks.0.mlp.c_fc.weight"])
def test_an_incomplete_teacher_file_is_refused(drop: str) -> None:
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    weights = teacher_to_official(CLIPVisionModel(CLIPVisionConfig(**config, intermediate_size=32)))
    del weights[drop]
    with pytest.raises(CheckpointLayoutError):
        teacher_from_official(weights, 2)
