"""The data arguments of video-text retrieval; each field is a flag of `tubelets finetune`."""

from dataclasses import dataclass, field
from typing import Literal

from tubelets.ranges import Count, Fraction, NotNegative, Positive, RangeError, Seed, Share, check_length, described
from tubelets.tasks.parts import DataArguments


@dataclass
class RetrievalDataArguments(DataArguments):
    """Videos with captions: a column `caption`, or `captions` with several of each (video_text_retrieval.md)."""

    fraction: Share = described(
        1.0, "Train on this share of the training videos, the same of each caption that several videos have."
    )
    fraction_seed: Seed = described(0, "Seed of that draw; a larger share contains the smaller ones of the same seed.")
    least_steps: Fraction = described(
        0.25, "With a share, an epoch has at least this share of the steps of the whole: it repeats its videos."
    )
    train_sampling: Literal["dense", "finetune", "segment", "uniform"] = described(
        "segment", "Frames of a training clip: segment draws one from each part of the video, dense a stretch of it."
    )
    test_sampling: Literal["dense_test", "segment_test", "uniform"] = described(
        "uniform", "Frames of a test clip: uniform and segment_test span the video, dense_test takes stretches."
    )
    stride: Count = described(4, "Distance between the frames of a dense clip.")
    test_clips: Count = described(1, "Clips of a video in tests, whose embeddings are averaged; uniform has one.")
    crop_scale: list[Share] = field(
        default_factory=lambda: [0.5, 1.0], metadata={"help": "Bounds of the crop's share of the frame in training."}
    )
    color_jitter: list[NotNegative] | None = field(
        default=None, metadata={"help": "Largest changes of brightness, contrast, saturation and hue; none by default."}
    )
    horizontal_flip: Fraction = described(
        0.0, "Probability of a horizontal flip in training; captions that say left or right need 0."
    )
    dual_softmax: Positive | None = described(
        None, "Temperature of a dual softmax over all queries of a test; a search does not have them."
    )
    rerank: Count | None = described(
        128, "Candidates of each query whose pairs a model scores together, if it can; null ranks by similarity alone."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_length("crop_scale", self.crop_scale, 2, "smallest and largest share of the frame")
        if self.crop_scale[0] > self.crop_scale[1]:
            raise RangeError(f"crop_scale must be ascending, got {self.crop_scale}; exchange its bounds")
        if self.color_jitter is not None:
            check_length("color_jitter", self.color_jitter, 4, "brightness, contrast, saturation, hue")
        if self.test_sampling == "uniform" and self.test_clips > 1:
            raise ValueError(
                f"uniform sampling gives one clip of a video, got test_clips={self.test_clips}; choose segment_test"
            )
