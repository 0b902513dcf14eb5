"""The page of the quickstart: scores, moving patches, masks, neighbours of a clip, losses, and what to do next."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tubelets import TubeletContrastConfig
from tubelets.benchmarks.camera_motion import CAMERA_MOTIONS
from tubelets.benchmarks.moving_objects import OBJECT_MOTIONS
from tubelets.data.assets.table import FOOTAGE
from tubelets.data.modalities.frame_sampling import uniform_clip
from tubelets.data.modalities.video import open_video, read_clip, read_clips
from tubelets.data.sources.opening import open_source
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize
from tubelets.evaluation.embedding import Embeddings
from tubelets.masking import build_mask_generator
from tubelets.models.methods.tubelet_contrast.processing_tubelet_contrast import TubeletContrastCollator
from tubelets.training.run_log import read_log
from tubelets.visualization import hide_tokens, save_gif, save_scores, save_training_curves
from tubelets.visualization.page import Page

PRETRAINED, RANDOM = "pretrained", "random weights"
CHANCE = {"CameraMotion-8": 1 / len(CAMERA_MOTIONS), "MovingObjects": 1 / len(OBJECT_MOTIONS)}
NEIGHBOURS, FRAMES, SIDE = 3, 16, 112
BENCHMARK_FRAMES = 8
NEXT = {
    "Pack your own videos, a folder of class folders": "tubelets shards videos --output_dir shards --short_side 128",
    "The same method at its published size, on a GPU": (
        "tubelets pretrain tubelet_contrast_r2plus1d_18_k400 --data.path shards --run.output_dir runs/mine"
    ),
    "Search a collection by example": (
        "tubelets embed runs/mine/final videos features.parquet && tubelets search features.parquet clip.mp4"
    ),
    "Fine-tune on your labels": (
        "tubelets finetune tubelet_contrast_r2plus1d_18_finetune_ucf101 --model_name_or_path runs/mine/final "
        "--dataset_name shards --output_dir runs/mine-finetuned"
    ),
    "Publish it with a complete card": "tubelets push runs/mine-finetuned you/your-model --license apache-2.0",
}


@dataclass(frozen=True)
class Results:
    """What the quickstart made.

    Attributes:
        output: its folder.
        camera: shards of CameraMotion-8.
        stages: folders of the models of both stages.
        scores: top-1 accuracies by benchmark, model and measure.
        rates: learning rate of fine-tuning that each model chose on held-back labels.
    """

    output: Path
    camera: Path
    stages: Sequence[Path]
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]
    rates: Mapping[str, float]


def write_page(results: Results) -> Path:
    """Draw the pictures and write `index.html`.

    Args:
        results: of the run.

    Returns:
        The page.
    """
    pictures = results.output / "pictures"
    steps, clips, seconds, device = _length(results.stages)
    page = Page(
        "Motion, learned without labels",
        f"A small Tubelet-Contrast watched {clips} clips in {steps} steps ({seconds / 60:.0f} minutes on {device}) and "
        "was told nothing about them. It is compared with the same network at random weights, on videos that neither "
        "has seen.",
    )
    page.heading("What it learned")
    for name, scores in results.scores.items():
        picture = save_scores(scores, CHANCE[name], pictures / f"{name.lower()}.png", f"{name}, held-out videos")
        page.picture(picture, f"{name}: top-1 accuracy on test clips of other videos; chance {CHANCE[name]:.1%}.")
    rates = ", ".join(f"{rate:g} from {side}" for side, rate in results.rates.items())
    page.text(
        f"Fine-tuning uses few labels. Its learning rate was chosen for each side on a quarter of the training labels: "
        f"{rates}. No number reproduces a published result; useful features need far longer training."
    )
    page.heading("How it learned")
    page.picture(
        _tubelets(pictures / "tubelets.gif"),
        "Both clips show the same moving patches and share nothing else: who matches them must follow the motion.",
    )
    lines = [line for stage in results.stages for line in _log(stage)]
    page.picture(
        save_training_curves(lines, pictures / "losses.png", "Tubelet-Contrast, two stages"),
        "Loss and accuracy of matching pairs; the second stage begins where they jump.",
    )
    page.heading("Neighbours of a clip")
    for side in (PRETRAINED, RANDOM):
        page.picture(
            _neighbours(results, side, pictures / f"neighbours_{side.replace(' ', '_')}.gif"),
            f"A test clip and the clips of other videos that resemble it most, features: {side}.",
        )
    page.heading("Masks of the other methods")
    page.picture(
        _masks(pictures / "masks.gif"),
        "VideoMAE and SIGMA predict the 90 % of the tokens that are hidden: at random, in tubes, or by green noise, "
        "whose islands move.",
    )
    page.heading("What to do next")
    page.commands(NEXT)
    return page.save(results.output / "index.html")


def _length(stages: Sequence[Path]) -> tuple[int, int, float, str]:
    """Steps, clips, seconds and device of all stages."""
    summaries = [json.loads((model / "training_summary.json").read_text(encoding="utf-8")) for model in stages]
    steps, clips = (sum(int(summary[name]) for summary in summaries) for name in ("steps", "clips_seen"))
    return steps, clips, sum(float(summary["seconds"]) for summary in summaries), summaries[0]["device"]


def _log(stage: Path) -> list[dict[str, float]]:
    """Logged lines of a stage; those of the second follow the first."""
    lines = read_log(stage.parent / "training_log.jsonl")
    if stage.parent.name == "first_stage":
        return lines
    before = read_log(stage.parent.parent / "first_stage" / "training_log.jsonl")[-1]
    return [
        {**line, **{name: line[name] + before[name] for name in ("step", "epoch") if name in line}} for line in lines
    ]


def _clip(label: str, start: int = 40) -> Tensor:
    """A clip of the footage, uint8 `(FRAMES, 3, SIDE, SIDE)`."""
    path = next(clip for clip in FOOTAGE if clip.label == label).local_path()
    crop = Compose((ShortSideResize(SIDE), CenterCrop(SIDE)))
    return crop(read_clip(path, FRAMES, 2, start=start), torch.Generator())


def _tubelets(path: Path) -> Path:
    """Two clips of different videos with the same moving patches."""
    collate = TubeletContrastCollator(TubeletContrastConfig(image_size=SIDE, num_frames=FRAMES))
    clips = [_clip(label) for label in ("exercise", "bird")]
    batch = collate([{"pixel_values": clip, "seed": 7 + place} for place, clip in enumerate(clips)])
    return save_gif({"a clip": batch["pixel_values"][0], "its pair": batch["key_pixel_values"][0]}, path)


def _masks(path: Path) -> Path:
    """A clip under three kinds of masks."""
    clip, grid = _clip("exercise"), (FRAMES // 2, SIDE // 8, SIDE // 8)
    panels = {"the clip": clip}
    for kind in ("random", "tube", "green3d"):
        mask = build_mask_generator(kind, grid, 0.9)(1, generator=torch.Generator().manual_seed(0))[0]
        panels[kind] = hide_tokens(clip, mask, grid)
    return save_gif(panels, path)


def _neighbours(results: Results, side: str, path: Path) -> Path:
    """A test clip of a moving camera and its neighbours from other videos."""
    bank = Embeddings.read(results.output / "evaluation" / f"{side.replace(' ', '_')}.parquet")
    query = next((row for row in bank.rows if row["label"] == "rotate"), bank.rows[0])
    video = _video_of(query["clip_id"])
    hits = [hit for hit in bank.search(bank.of(query["clip_id"]), len(bank.rows)) if _video_of(hit["clip_id"]) != video]
    shown = [query, *hits[:NEIGHBOURS]]
    frames = _frames_of(results.camera, [row["clip_id"] for row in shown])
    names = [f"query: {query['label']}", *(f"{place}. {row['label']}" for place, row in enumerate(shown[1:], start=1))]
    return save_gif(dict(zip(names, (frames[row["clip_id"]] for row in shown), strict=True)), path)


def _video_of(clip_id: str) -> str:
    """The source video in the id of a clip."""
    return clip_id.partition("-")[0]


def _frames_of(shards: Path, clip_ids: Sequence[str]) -> dict[str, Tensor]:
    """Frames of test clips by id."""
    source = open_source(shards, "test")
    found: dict[str, Tensor] = {}
    for index in range(source.num_shards):
        for sample in source.iterate_shard(index):
            if sample.clip_id in clip_ids:
                with open_video(source.read_bytes(sample)) as video:
                    found[sample.clip_id] = read_clips(video, [uniform_clip(video.num_frames, BENCHMARK_FRAMES)])[0]
    return found
