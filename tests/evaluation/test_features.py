import json
from dataclasses import replace

import pytest
import torch
from clip_shards import CLASS_NAMES, clip_rows, write_parquet
from transformers import VJEPA2Config, VJEPA2Model, VJEPA2VideoProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tubelets import TubeletsVideoMAEConfig
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import ClipSpec
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize
from tubelets.evaluation import features as module
from tubelets.evaluation.features import FeatureSet, extract_features
from tubelets.evaluation.inputs import FrameInputs, processor_inputs
from tubelets.models.backbones.video_vit.modeling_video_vit import (
    TubeletsVideoMAEForVideoClassification,
    TubeletsVideoMAEModel,
)
from tubelets.models.common.backbone import Backbone

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
CLIPS = ClipSpec(num_frames=4, stride=2, clips_per_video=2, sampling="dense_test")
CROP = Compose((ShortSideResize(16), CenterCrop(16)))
INPUTS = FrameInputs(CLIPS, CROP, MEAN, STD)


def tiny_model(kind=TubeletsVideoMAEModel):
    torch.manual_seed(0)
    return kind(
        TubeletsVideoMAEConfig(
            image_size=16, patch_size=8, num_frames=4, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, image_mean=MEAN, image_std=STD,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source(write_parquet(tmp_path_factory.mktemp("shards"), clip_rows(10), [6, 4]))


def extract(source, **changes):
    options = {"batch_size": 4, "progress": False, **changes}
    return extract_features(tiny_model(), source, INPUTS, **options)


def test_rows_are_the_models_own_features_and_sorted_by_name(source):
    found = extract(source)
    assert found.features.shape == (20, 32)
    assert found.clip_ids == sorted(f"clip-{i:03d}#{k}" for i in range(10) for k in range(2))
    assert found.labels.tolist() == [i % 3 for i in range(10) for _ in range(2)]
    assert found.class_names == CLASS_NAMES
    tokens = extract(source, pooling="tokens")
    assert torch.equal(tokens.features, found.features)
    assert (tokens.tokens.dtype, tokens.tokens.shape) == (torch.float16, (20, 8, 32))
    torch.testing.assert_close(tokens.tokens.float().mean(dim=1), found.features, atol=2e-3, rtol=2e-3)
    assert found.tokens is None
    # Raw clips are normalised with the given mean and deviation: the model does the same with its own.
    from tubelets.data.modalities.video import open_video, read_clips

    sample = next(iter(source.iterate_shard(0)))
    with open_video(source.read_bytes(sample)) as video:
        clip = read_clips(video, [CLIPS.indices(video.num_frames, 1, torch.Generator())])[0]
    with torch.no_grad():
        expected = tiny_model().eval()(CROP(clip, torch.Generator())[None]).pooler_output[0]
    row = found.clip_ids.index(f"{sample.clip_id}#1")
    torch.testing.assert_close(found.features[row], expected, atol=1e-5, rtol=1e-5)


def test_workers_and_batches_do_not_change_features(source):
    reference = extract(source)
    for changes in ({"num_workers": 2}, {"batch_size": 6}):
        found = extract(source, **changes)
        assert found.clip_ids == reference.clip_ids
        torch.testing.assert_close(found.features, reference.features)


def test_a_head_is_stripped_and_the_mode_restored(source):
    model = tiny_model(TubeletsVideoMAEForVideoClassification).train()
    found = extract_features(model, source, INPUTS, progress=False)
    assert found.features.shape == (20, 32)
    assert model.base_model.training


def test_an_interrupted_extraction_continues_and_gives_the_same(source, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BATCHES_PER_PART", 2)
    seen = []
    forward = module.pooled_features

    def failing(backbone, inputs, *rest):
        seen.append(len(inputs["pixel_values"]))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return forward(backbone, inputs, *rest)

    monkeypatch.setattr(module, "pooled_features", failing)
    with pytest.raises(KeyboardInterrupt):
        extract(source, cache_dir=tmp_path)
    resumed = extract(source, cache_dir=tmp_path)
    assert sum(seen) == 20 + 8  # batches 3 and 4 were lost, the part of batches 1 and 2 was kept
    before = len(seen)
    cached = extract(source, cache_dir=tmp_path)
    assert len(seen) == before
    monkeypatch.undo()
    plain = extract(source)
    for found in (resumed, cached):
        assert (found.clip_ids, found.class_names) == (plain.clip_ids, plain.class_names)
        torch.testing.assert_close(found.features, plain.features)
        assert torch.equal(found.labels, plain.labels)


def test_the_cache_knows_weights_videos_sampling_and_transform(source, tmp_path):
    def folders():
        return {path.name for path in tmp_path.iterdir()}

    extract(source, cache_dir=tmp_path)
    assert len(folders()) == 1
    changed = tiny_model()
    with torch.no_grad():
        changed.embeddings.patch_embeddings.projection.bias[0] += 1
    extract_features(changed, source, INPUTS, progress=False, cache_dir=tmp_path)
    extract(source, cache_dir=tmp_path, pooling="tokens")
    for inputs in (
        replace(INPUTS, clips=ClipSpec(4, 1, 2, "dense_test")),
        replace(INPUTS, transform=CenterCrop(16)),
    ):
        extract_features(tiny_model(), source, inputs, progress=False, cache_dir=tmp_path)
    assert len(folders()) == 5


def test_saved_features_come_back_and_half_written_ones_are_refused(tmp_path):
    features = FeatureSet(torch.rand(3, 2), torch.tensor([0, 1, 1]), ["a", "b", "c"], ["x", "y"], torch.rand(3, 4, 2))
    features.save(tmp_path / "set")
    loaded = FeatureSet.load(tmp_path / "set")
    assert torch.equal(loaded.features, features.features)
    assert torch.equal(loaded.tokens, features.tokens)
    assert (loaded.clip_ids, loaded.class_names) == (features.clip_ids, features.class_names)
    assert json.loads((tmp_path / "set" / "features.json").read_text())["class_names"] == ["x", "y"]
    (tmp_path / "set" / "features.json").unlink()
    with pytest.raises(FileNotFoundError, match="no complete features"):
        FeatureSet.load(tmp_path / "set")


class BrightestColour(Backbone):
    """A toy with a pooling of its own: neither a mean nor weights."""

    feature_size = 3

    def forward(self, pixel_values):
        pixels = pixel_values.movedim(2, 1)
        return BaseModelOutputWithPooling(last_hidden_state=pixels, pooler_output=pixels.amax(dim=(2, 3, 4)))


def test_any_backbone_is_measured_with_its_own_pooling(source):
    inputs = FrameInputs(ClipSpec(2, 2, 1, "dense_test"), CROP, MEAN, STD)
    found = extract_features(BrightestColour(), source, inputs, pooling="tokens", progress=False)
    assert (found.features.shape, found.tokens.shape) == ((10, 3), (10, 2 * 16 * 16, 3))
    torch.testing.assert_close(found.tokens.float().amax(dim=1), found.features, atol=1e-2, rtol=1e-2)


def test_models_of_transformers_are_measured_through_their_own_processor(source):
    predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    config = VJEPA2Config(
        crop_size=16, patch_size=8, frames_per_clip=4, tubelet_size=2, hidden_size=24, num_attention_heads=2,
        num_hidden_layers=1, mlp_ratio=2, pred_num_mask_tokens=1, **predictor,
    )  # fmt: skip
    torch.manual_seed(0)
    model = VJEPA2Model(config).train()
    processor = VJEPA2VideoProcessor(crop_size={"height": 16, "width": 16})
    inputs = processor_inputs(processor, config, sampling="uniform")
    found = extract_features(model, source, inputs, pooling="tokens", progress=False)
    assert (found.features.shape, found.tokens.shape) == ((10, 24), (10, 2 * 2 * 2, 24))
    torch.testing.assert_close(found.tokens.float().mean(dim=1), found.features, atol=2e-3, rtol=2e-3)
    assert model.training


def test_models_that_are_not_backbones_and_unknown_poolings_are_refused(source):
    with pytest.raises(TypeError, match="Linear is not a backbone"):
        extract_features(torch.nn.Linear(2, 2), source, INPUTS)
    with pytest.raises(ValueError, match="pooling must be one of own, tokens, got 'mean'"):
        extract(source, pooling="mean")


def test_unlabelled_videos_are_refused(source):
    class Unlabelled:
        annotations = ()
        shard_names = source.shard_names

    with pytest.raises(ValueError, match="no labels"):
        extract(Unlabelled())
