"""The data arguments of the classification tasks; each field is a flag of `tubelets finetune`."""

from dataclasses import dataclass, field
from typing import Literal

from tubelets.data.transforms.augmentations import RandAugment
from tubelets.data.transforms.sound import SoundAugmentation
from tubelets.ranges import Count, Fraction, Natural, NotNegative, RangeError, Seed, Share, check_length, described
from tubelets.tasks.parts import DataArguments


@dataclass
class LabelledDataArguments(DataArguments):
    """The labelled data of a run; each task adds sampling and augmentation."""

    class_names: str | None = described(
        None, "File with one class name per line; by default the names of the data set."
    )
    multi_label: bool = described(False, "Clips can have several classes; lists of files separate them by ';'.")
    shots_per_class: Count | None = described(
        None, "Train on this many clips of each class, drawn from the training part."
    )
    shots_seed: Seed = described(0, "Seed of that draw; with the same seed, a larger draw contains the smaller ones.")
    held_back_shots: Count | None = described(
        None,
        "With shots_per_class: validate and test on this many other clips of each class of the training part, so that "
        "settings are chosen without the test part.",
    )
    train_ids: str | None = described(
        None, "File with the ids of the clips to train on, one per line, such as a published subset; by default all."
    )
    train_fraction: Share | None = described(
        None, "Train on this share of all clips of the training part, drawn by shots_seed whatever their class."
    )
    mixup: NotNegative = described(0.0, "Parameter of mixup; 0 disables it.")
    mix_probability: Fraction = described(1.0, "Share of the batches that are mixed.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_ids is not None and self.shots_per_class is not None:
            raise ValueError(f"train_ids={self.train_ids!r} and shots_per_class={self.shots_per_class}: give one")
        if self.train_fraction is not None and (self.train_ids or self.shots_per_class is not None):
            raise ValueError(f"train_fraction={self.train_fraction} and train_ids or shots_per_class: give one")
        if self.held_back_shots is not None and self.shots_per_class is None:
            raise ValueError(f"held_back_shots={self.held_back_shots} needs shots_per_class, whose draw it follows")


@dataclass
class VideoDataArguments(LabelledDataArguments):
    """Videos, clip sampling and augmentation (sigma.md, section 7.2)."""

    train_sampling: Literal["dense", "finetune", "segment", "uniform"] = described(
        "finetune", "Frames of a training clip: finetune (Kinetics) or segment (Something-Something)."
    )
    test_sampling: Literal["dense_test", "segment_test", "uniform"] = described(
        "dense_test", "Frames of the test clips: dense_test (Kinetics) or segment_test (Something-Something)."
    )
    stride: Count = described(4, "Distance between the frames of a clip; not used by segment and uniform sampling.")
    test_clips: Count = described(5, "Clips of a video in the final test; validation during training uses one.")
    test_crops: Count = described(3, "Crops of a test clip, 1 or 3; validation during training uses one.")
    test_short_side: Count | None = described(
        None, "Shorter side before the central test crop; by default the side of the crop."
    )
    repeated_augmentation: Count = described(
        1, "Times a clip is augmented in the same batch; batch sizes count videos."
    )
    random_augment: str | None = described(
        "rand-m7-n4-mstd0.5-inc1", "RandAugment policy; an empty string disables it."
    )
    crop_scale: list[Share] = field(
        default_factory=lambda: [0.25, 1.0], metadata={"help": "Bounds of the crop's share of the frame."}
    )
    color_jitter: list[NotNegative] | None = field(
        default=None, metadata={"help": "Largest changes of brightness, contrast, saturation and hue; none by default."}
    )
    horizontal_flip: Fraction = described(
        0.5, "Probability of a horizontal flip; 0 if labels distinguish left and right."
    )
    random_erasing: Fraction = described(0.25, "Probability of random erasing.")
    mixup: NotNegative = described(0.8, "Parameter of mixup; 0 disables it.")
    cutmix: NotNegative = described(1.0, "Parameter of cutmix; 0 disables it.")
    cutmix_share: Fraction = described(0.5, "Share of the mixed batches that use cutmix, if both are on.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.random_augment:
            RandAugment.parse(self.random_augment)
        else:
            self.random_augment = None
        check_length("crop_scale", self.crop_scale, 2, "smallest and largest share of the frame")
        if self.crop_scale[0] > self.crop_scale[1]:
            raise RangeError(f"crop_scale must be ascending, got {self.crop_scale}; exchange its bounds")
        if self.color_jitter is not None:
            check_length("color_jitter", self.color_jitter, 4, "brightness, contrast, saturation, hue")
            if self.color_jitter[3] > 0.5:
                raise RangeError(f"color_jitter[3], the change of hue, must be in [0, 0.5], got {self.color_jitter[3]}")
        if self.test_crops not in (1, 3):
            raise RangeError(f"test_crops must be 1 or 3, got {self.test_crops}")


@dataclass
class AudioDataArguments(LabelledDataArguments):
    """Audio files or videos with audio, and their augmentation (structured_noise_masking.md, section 8).

    A training clip is a random excerpt of its sound, a test clip the middle. Arguments about frames apply to
    audio-visual models.
    """

    roll: Literal["waveform", "spectrogram", "none"] = described(
        "waveform", "What to roll in time by a random shift in training."
    )
    gain: Natural = described(10, "c of the gain Beta(c, c) + 0.5 on training sounds; 0 disables it.")
    noise: NotNegative = described(0.0, "Largest amplitude of uniform noise on training spectrograms.")
    time_mask: Natural = described(0, "Largest time mask in training, in frames of the spectrogram.")
    frequency_mask: Natural = described(0, "Largest frequency mask in training, in mel bins.")
    class_balanced: bool = described(
        False, "Sample training clips with replacement, balanced over classes; needs local Parquet shards or files."
    )
    stride: Count = described(1, "Distance between the frames of a clip.")
    test_clips: Count = described(1, "Clips of a video in the final test, spread over it; audio-only models use one.")

    def __post_init__(self) -> None:
        super().__post_init__()
        SoundAugmentation(self.roll, self.gain, self.noise, self.time_mask, self.frequency_mask)
        if self.class_balanced and self.shots_per_class is not None:
            raise ValueError(
                "shots_per_class already draws the same number of clips of each class; omit class_balanced"
            )


@dataclass
class SkeletonDataArguments(LabelledDataArguments):
    """Recordings of skeletons, temporal crops and augmentation (skeleton_contrast.md, section 7.1).

    A training clip is a random part of its recording, a test clip the middle, as the model's processor cuts it.
    """

    crop_ratio: Fraction = described(0.5, "Smallest share of a recording that is a training clip.")
    crop_frames: Count = described(64, "Fewest frames of a training clip; shorter recordings are not cut.")
    augmentations: list[Literal["pose", "jitter"]] = field(
        default_factory=list, metadata={"help": "Spatial augmentations of training clips, one of which each gets."}
    )
    jitter_joints: Count = described(15, "Joints that jittering changes.")
    shear_strength: NotNegative = described(1.0, "Largest entry of the shear of pose augmentation.")
    mirror: Fraction = described(0.0, "Probability that left and right change places; 0 if labels distinguish them.")
