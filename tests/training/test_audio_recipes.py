"""The pretraining recipes of networks that hear: what the spec says, and a few steps of a small network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from pretraining import ROOT, command, losses, train
from transformers import AutoFeatureExtractor, AutoModel

from sounds import make_sounding_video, tone
from tubelets.data.build.shards import build_shards
from tubelets.data.build.transcoding import TranscodeOptions
from tubelets.data.modalities.audio import encode_audio
from tubelets.data.sources.records import VideoRecord
from tubelets.models.common.auto import pretraining_collator
from tubelets.training.optimization import build_optimizer, plan_run
from tubelets.training.pretraining import build_loader, build_model
from tubelets.training.recipe import load_recipe

HEARING = sorted(
    path
    for part in ("audio", "cav_mae")
    for path in (ROOT / "training" / "recipes").glob(f"structured_noise_{part}_*.yaml")
    if "finetune" not in path.stem
)
STUDY = ROOT / "training" / "recipes" / "study_audio_masks.yaml"
GIVEN = ["--data.path=shards", "--run.output_dir=runs/x"]
# Time slots of the grid and masked patches, where they are not those of AudioMAE on AudioSet or of CAV-MAE.
GRIDS = {"maskspec": (62, 372), "esc50": (32, 205), "speech": (8, 52)}
# Mean and twice the deviation: what spectrograms are divided by.
STATISTICS = {
    "maskspec": (-4.5, 5.0),
    "cav_mae": (-5.081, 4.4849),
    "esc50": (-6.6268077, 2 * 5.358466),
    "speech": (-6.845978, 2 * 5.5654526),
}
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "decoder_hidden_size": 32, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32, "max_length": 64, "mask_options": "{bank_size: 4}",
}  # fmt: skip


@pytest.mark.parametrize("path", HEARING, ids=lambda path: path.stem)
def test_audio_recipes_follow_the_spec(path: Path) -> None:
    recipe = load_recipe(path, GIVEN)
    config, optimization = recipe.model.build_config(), recipe.optimization
    generator = config.build_mask_generator()
    assert generator.kind == "regularized_blue"
    joint, maskspec = "cav_mae" in path.stem, "maskspec" in path.stem
    slots, masked = next((grid for name, grid in GRIDS.items() if name in path.stem), (64, 384) if joint else (64, 410))
    assert (generator.grid, generator.num_masked) == ((slots, 8), masked)
    assert (config.spectrogram_mean, 2 * config.spectrogram_std) == pytest.approx(
        next((given for name, given in STATISTICS.items() if name in path.stem), (-4.2677393, 2 * 4.5689974))
    )
    assert config.token_order == ("frequency" if joint or maskspec else "time")
    assert (config.sampling_rate, config.num_mel_bins) == (32000 if maskspec else 16000, 128)
    plan = plan_run(optimization, clips_per_epoch=51200, batch_size=recipe.run.batch_size, num_processes=2)
    if joint:
        frames = config.build_video_mask_generator()
        assert (frames.kind, frames.num_masked, optimization.epochs) == ("green2d", 147, 25)
        assert (plan.schedule.learning_rate, optimization.global_batch_size) == (2e-4, 256)
        assert (config.contrastive_weight, config.contrastive_temperature) == (0.01, 0.05)
    else:
        assert config.decoder_type == ("plain" if maskspec else "window")
        assert (plan.schedule.learning_rate, optimization.global_batch_size) == (4e-4, 512)
        epochs = {"esc50": (800, 40), "speech": (100, 10)}
        expected = next((given for name, given in epochs.items() if name in path.stem), (33, 3))
        assert (optimization.epochs, optimization.warmup_epochs, optimization.weight_decay) == (*expected, 1e-4)


@pytest.mark.parametrize("path", [*HEARING, STUDY], ids=lambda path: path.stem)
def test_audio_recipes_train_a_small_network(path: Path) -> None:
    small: dict[str, Any] = dict(SMALL)
    if "cav_mae" in path.stem:
        small |= {"image_size": 32, "video_mask_options": "{bank_size: 2}"}
    recipe = load_recipe(path, [*GIVEN, *(f"--model.config.{name}={value}" for name, value in small.items())])
    model: Any = build_model(recipe)
    optimizer = build_optimizer(model, recipe.optimization, 1e-2)
    generator = torch.Generator().manual_seed(0)
    items = [
        {
            "waveform": 0.1 * torch.randn(model.config.sampling_rate // 2, generator=generator),
            "pixel_values": torch.randint(0, 256, (1, 3, 32, 32), generator=generator).to(torch.uint8),
            "seed": seed,
        }
        for seed in range(4)
    ]
    batch = pretraining_collator(model.config)(items)
    losses = []
    for _ in range(8):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def make_sound_shards(folder: Path) -> Path:
    """Shards of twelve short sounds."""
    records = []
    for number in range(12):
        path = folder / f"{number}.flac"
        path.write_bytes(encode_audio(tone(0.4, 8000, 200.0 + 100 * number), 8000, "flac"))
        records.append(VideoRecord(path, None, None, str(number)))
    build_shards(records, folder / "shards", clips_per_shard=6, progress=False)
    return folder / "shards"


def make_film_shards(folder: Path) -> Path:
    """Shards of eight videos with sound, re-encoded."""
    records = []
    for number in range(8):
        path = folder / f"{number}.avi"
        path.write_bytes(make_sounding_video(0.8, "pcm_s16le", container="avi", sound=tone(0.8, 16000, 200.0 + number)))
        records.append(VideoRecord(path, None, None, str(number)))
    build_shards(records, folder / "shards", transcode=TranscodeOptions(short_side=32), progress=False)
    return folder / "shards"


# The other recipes differ in sizes and numbers, and in the decoder, which is trained above.
RUN = [path for path in HEARING if path.stem.endswith(("audio_vit_b_audioset", "cav_mae_vit_b_audioset"))]


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_audio_recipes_run(path: Path, tmp_path: Path) -> None:
    sees = "cav_mae" in path.stem
    shards = make_film_shards(tmp_path) if sees else make_sound_shards(tmp_path)
    small: dict[str, Any] = {f"model__config__{name}": value for name, value in SMALL.items()}
    small |= {"model__config__num_prototypes": None, "model__config__image_size": 32 if sees else None}
    if sees:
        small["model__config__video_mask_options"] = "{bank_size: 2}"
    options = {**small, "run__precision": "fp32", "run__trackers": "[]", "data__num_workers": 0}
    train(*command(shards, tmp_path / "run", path, **options, optimization__max_steps=3))
    assert len(losses(tmp_path / "run")) == 3
    final = tmp_path / "run" / "final"
    model, processor = AutoModel.from_pretrained(final), AutoFeatureExtractor.from_pretrained(final)
    sound = processor(torch.zeros(4000).numpy(), sampling_rate=16000, return_tensors="pt")["input_values"]
    assert sound.shape == (1, 64, 128)
    frames = (torch.zeros(1, 1, 3, 32, 32, dtype=torch.uint8),) if sees else ()
    assert model(sound, *frames).last_hidden_state.isfinite().all()
    card = (final / "README.md").read_text()
    assert "AutoVideoProcessor" not in card
    assert "sampling_rate=rate" in card
    assert json.loads((final / "training_summary.json").read_text())["clips_seen"] == 12


def test_several_clips_of_a_sound_are_refused(tmp_path: Path) -> None:
    recipe = load_recipe(HEARING[0], [f"--data.path={make_sound_shards(tmp_path)}", "--run.output_dir=x"])
    recipe.data.clips_per_video = 2
    with pytest.raises(ValueError, match=r"clips_per_video=2 must be 1 for audio"):
        build_loader(recipe, recipe.model.build_config(), Accelerator(cpu=True))
