"""Configuration of SIGMA (ECCV 2024, arXiv 2407.15447); the defaults are SIGMA-MLP with ViT-B on Kinetics-400."""

import itertools
from typing import Literal

from huggingface_hub.dataclasses import strict

from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig

DINO_TEACHERS = {
    ("dino_v1", 384): "transformers:facebook/dino-vits16",
    ("dino_v1", 768): "transformers:facebook/dino-vitb16",
    ("dino_v2", 384): "timm:vit_small_patch14_reg4_dinov2.lvd142m",
    ("dino_v2", 768): "timm:vit_base_patch14_reg4_dinov2.lvd142m",
}


@strict
class SigmaConfig(TubeletsVideoMAEConfig):
    r"""Constants of SIGMA on top of the masked-video base.

    Args:
        target_type: target of the masked tokens (sigma.md, section 3). `mlp`: a jointly trained projection of their
            pixels; `dino_v1`, `dino_v2`: features of a frozen DINO ViT; `image_encoder`: features of the frozen encoder
            named by `teacher`; `pixel`: the pixels themselves, regressed (the VideoMAE baseline).
        loss_type: `prototypes` is SIGMA's swapped prediction, `regression` a mean squared error. `None` picks
            `regression` for pixels and `prototypes` otherwise. `mlp` with `regression` is refused: it collapses.
        normalize_target: standardise feature targets per clip and channel. (Pixels follow `norm_pix_loss`.)
        projection_hidden_sizes: hidden widths of the projection network.
        projection_size: output width of the projection network.
        num_prototypes: K. The official scripts use 3000; in an ablation 4000 was best for SIGMA-MLP on mini-SSv2.
        sinkhorn_epsilon: temperature of the assignment; 0.05, and 0.03 in the official ViT-B scripts for SSv2.
        sinkhorn_iterations: iterations of the assignment.
        temperature: softmax temperature of the cross entropy.
        hard_labels: cross entropy against the argmax of the assignment, as the official code; False uses the soft
            assignment of the paper's formula.
        teacher: frozen image encoder, `library:name` with library `transformers`, `timm` or `open_clip`; `None` picks
            the DINO of `teacher_hidden_size`. See `tubelets.models.teachers.image_libraries`.
        teacher_hidden_size: width of the teacher's features.
        **kwargs: fields of `TubeletsVideoMAEConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or the fields contradict each other.

    Example:
        >>> SigmaConfig().prediction_size, SigmaConfig(target_type="dino_v1").prediction_size
        (256, 768)
    """

    model_type = "sigma"

    target_type: Literal["mlp", "dino_v1", "dino_v2", "image_encoder", "pixel"] = "mlp"
    loss_type: Literal["prototypes", "regression"] | None = None
    normalize_target: bool = True
    projection_hidden_sizes: list[int] | tuple[int, ...] = (1024, 1024, 512)
    projection_size: int = 256
    num_prototypes: int = 3000
    sinkhorn_epsilon: float | int = 0.05
    sinkhorn_iterations: int = 10
    temperature: float | int = 0.1
    hard_labels: bool = True
    teacher: str | None = None
    teacher_hidden_size: int = 768

    def __post_init__(self, **kwargs: object) -> None:
        """Resolve the defaults that depend on the target."""
        if self.loss_type is None:
            self.loss_type = "regression" if self.target_type == "pixel" else "prototypes"
        if self.teacher is None:
            self.teacher = DINO_TEACHERS.get((self.target_type, self.teacher_hidden_size))
        super().__post_init__(**kwargs)

    @property
    def uses_teacher(self) -> bool:
        """Whether targets come from a frozen image encoder."""
        return self.target_type in ("dino_v1", "dino_v2", "image_encoder")

    @property
    def prediction_size(self) -> int:
        """Width of the decoder's output, which is the width of the target."""
        if self.target_type == "pixel":
            return self.pixels_per_tube
        return self.teacher_hidden_size if self.uses_teacher else self.projection_size

    @property
    def num_values(self) -> int:
        """Approximate number of values in the largest model of this configuration."""
        widths = [self.pixels_per_tube, *self.projection_hidden_sizes, self.projection_size]
        projection = sum(before * after for before, after in itertools.pairwise(widths))
        return super().num_values + projection + (self.num_prototypes + self.decoder_hidden_size) * self.prediction_size

    def validate_target(self) -> None:
        """Reject combinations of target and loss that the method does not define."""
        if (self.target_type, self.loss_type) in (("mlp", "regression"), ("pixel", "prototypes")):
            why = "collapses" if self.target_type == "mlp" else "has no projection to score"
            raise ValueError(f"target_type={self.target_type!r} with loss_type={self.loss_type!r} {why}; change one")
        if self.target_type == "image_encoder" and self.teacher is None:
            raise ValueError("target_type='image_encoder' needs teacher='library:name', got None")

    def validate_assignment(self) -> None:
        """Reject numbers outside their range."""
        for name in ("sinkhorn_epsilon", "temperature", "num_prototypes", "projection_size", "teacher_hidden_size"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if min(self.projection_hidden_sizes, default=1) <= 0:
            raise ValueError(f"projection_hidden_sizes must all be positive, got {self.projection_hidden_sizes}")
        if not 0 <= self.sinkhorn_iterations <= 1000:
            raise ValueError(f"sinkhorn_iterations must lie in [0, 1000], got {self.sinkhorn_iterations}")
