"""Configuration of Skeleton-Contrast (ACM Multimedia 2021, arXiv 2108.03656); the defaults are those of NTU-60."""

import math
from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict

from tubelets.models.backbones.agcn.configuration_agcn import AgcnConfig
from tubelets.models.backbones.bigru.configuration_bigru import BiGruConfig
from tubelets.models.backbones.hcn.configuration_hcn import HcnConfig
from tubelets.models.backbones.skeleton_networks.configuration_skeleton import SkeletonConfig

if TYPE_CHECKING:
    from tubelets.skeletons.views import ViewSettings

# Fields that the encoders share with the method.
SHARED = (
    "layout", "joints", "bones", "centre", "num_frames", "max_frames", "num_bodies", "num_coordinates",
    "has_confidence", "normalization",
)  # fmt: skip
ENCODERS: dict[str, type[SkeletonConfig]] = {"sequence": BiGruConfig, "graph": AgcnConfig, "image": HcnConfig}


@strict
class SkeletonContrastConfig(SkeletonConfig):
    r"""Constants of Skeleton-Contrast's encoders, losses and views.

    Args:
        representations: the representations that are contrasted, in the order of the official pairs: `sequence`
            (BiGRU), `graph` (AGCN), `image` (HCN). Two is the paper's inter-skeleton contrast, one intra-skeleton
            contrast. With all three the losses of the three pairs are summed; the paper reports it without a formula,
            so that this form is ours (skeleton_contrast.md, section 4.4).
        evaluated: the encoders of `SkeletonContrastModel` and of the classifier, whose features are concatenated; None
            is the first representation, as in the paper.
        sequence_options: fields of `BiGruConfig` that differ from its defaults.
        graph_options: fields of `AgcnConfig` that differ from its defaults.
        image_options: fields of `HcnConfig` that differ from its defaults.
        projection_size: width of the contrasted features.
        queue_size: older keys that serve as negatives, in each queue; a multiple of the global batch.
        momentum: share of the key encoders that is kept in each step.
        temperature: divides the similarities.
        augmentations: of each view, some of `temporal`, `pose` and `jitter`.
        min_crop_ratio: smallest share of the frames of a temporal crop.
        min_crop_frames: fewest frames of a temporal crop.
        jitter_joints: joints that jittering changes.
        shear_strength: largest entry of the pose augmentation's matrix beside its diagonal.
        **kwargs: fields of `SkeletonConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> config = SkeletonContrastConfig()
        >>> config.feature_size, [each.model_type for each in config.encoder_configs.values()]
        (2048, ['bigru', 'agcn'])
    """

    model_type = "skeleton_contrast"
    field_ranges: ClassVar = {
        **SkeletonConfig.field_ranges,
        "projection_size": (1, 2**14), "queue_size": (1, 2**24), "momentum": (0, 1), "min_crop_ratio": (0, 1),
        "shear_strength": (0, 100),
    }  # fmt: skip

    representations: list[str] | tuple[str, ...] = ("sequence", "graph")
    evaluated: list[str] | tuple[str, ...] | None = None
    sequence_options: dict[str, Any] | None = None
    graph_options: dict[str, Any] | None = None
    image_options: dict[str, Any] | None = None
    projection_size: int = 128
    queue_size: int = 16384
    momentum: float | int = 0.999
    temperature: float | int = 0.07
    augmentations: list[str] | tuple[str, ...] = ("temporal", "pose", "jitter")
    min_crop_ratio: float | int = 0.1
    min_crop_frames: int = 64
    jitter_joints: int = 15
    shear_strength: float | int = 1.0

    @property
    def encoder_configs(self) -> dict[str, SkeletonConfig]:
        """Configuration of the encoder of each representation."""
        shared = {name: getattr(self, name) for name in SHARED}
        options = {"sequence": self.sequence_options, "graph": self.graph_options, "image": self.image_options}
        return {name: ENCODERS[name](**{**shared, **(options[name] or {})}) for name in self.representations}

    @property
    def evaluated_representations(self) -> tuple[str, ...]:
        """Representations whose encoders are evaluated."""
        return tuple(self.representations[:1] if self.evaluated is None else self.evaluated)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Representation of the query and of the key of each loss, in the order of the logits."""
        names = list(self.representations)
        if len(names) == 1:
            return [(names[0], names[0])]
        pairs = [(first, second) for place, first in enumerate(names) for second in names[place + 1 :]]
        return [both for first, second in pairs for both in ((first, second), (second, first))]

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature: of all evaluated encoders."""
        encoders = self.encoder_configs
        return sum(encoders[name].feature_size for name in self.evaluated_representations)

    @property
    def num_values(self) -> int:
        """Approximate number of weights of the trained encoders."""
        return sum(config.num_values for config in self.encoder_configs.values())

    @property
    def view_settings(self) -> "ViewSettings":
        """How views are drawn."""
        # Imported here: it needs torch, which reading a configuration does not.
        from tubelets.skeletons.views import ViewSettings

        return ViewSettings(
            self.num_frames,
            tuple(self.augmentations),
            self.min_crop_ratio,
            self.min_crop_frames,
            self.jitter_joints,
            self.shear_strength,
            self.num_dimensions,
        )

    def validate_encoders(self) -> None:
        """Reject representations that do not exist, and numbers out of range."""
        names = list(self.representations)
        if not names or names != [name for name in ENCODERS if name in names]:
            raise ValueError(
                f"representations must be some of {', '.join(ENCODERS)}, in this order, got {self.representations}"
            )
        chosen = self.evaluated_representations
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(names):
            raise ValueError(f"evaluated must be some of the representations {names}, got {self.evaluated}")
        unused = [name for name in ENCODERS if name not in names and getattr(self, f"{name}_options")]
        if unused:
            raise ValueError(f"{unused[0]}_options are given and {unused[0]!r} is not among the representations")
        for name in names:
            unknown = set(getattr(self, f"{name}_options") or {}) - set(ENCODERS[name].__dataclass_fields__)
            if unknown or set(getattr(self, f"{name}_options") or {}) & set(SHARED):
                raise ValueError(
                    f"{name}_options must be fields of {ENCODERS[name].__name__} other than those of the method, got "
                    f"{getattr(self, f'{name}_options')}"
                )
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.queue_size * self.projection_size > 2**28:
            raise ValueError(
                f"a queue of {self.queue_size} x {self.projection_size} values is beyond memory; it may have 2**28"
            )
        _ = self.view_settings  # refuses augmentations that do not exist
        _ = self.encoder_configs  # refuses sizes that the encoders do not have
