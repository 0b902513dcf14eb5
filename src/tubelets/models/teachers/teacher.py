"""Teachers by reference: a method names a frozen model, and `attach_teacher` loads it outside the weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModel

from tubelets.models.backbones.adapters import as_backbone
from tubelets.models.common.safe_loading import load_model
from tubelets.models.teachers.frozen import CachedTeacher, FrozenModel, Output, Teacher
from tubelets.models.teachers.image_libraries import load_image_encoder


@dataclass(frozen=True)
class TeacherSpec:
    """The frozen model that a method needs.

    Attributes:
        reference: `library:name` of an image encoder, see `image_libraries`, or the folder or Hub id of a model of
            this package or of transformers, of any modality. None if the user has to choose one.
        feature_size: feature width that the method expects.
        image_size: height and width in pixels of the input images of an image encoder.
        auto_class: how a folder or Hub id is loaded, e.g. `AutoModelForVideoClassification` for a classifier.
        output: output field of a model from a folder or Hub id: `pooler_output`, `last_hidden_state` or `logits`.
    """

    reference: str | None
    feature_size: int
    image_size: int | list[int] | tuple[int, int] = 224
    auto_class: Any = AutoModel
    output: Output = "pooler_output"


def load_teacher(spec: TeacherSpec) -> Teacher:
    """Load a frozen model with its weights.

    Args:
        spec: which one.

    Returns:
        The teacher, in evaluation mode and without gradients.

    Raises:
        ValueError: if the reference is None or its library is unknown.
        tubelets.models.common.errors.UnsafeCheckpointError: if its files contain code, or need code of their
        repository.
        OSError: if the model is not found.

    Example:
        >>> import tempfile
        >>> from transformers import AutoModelForVideoClassification
        >>> from tubelets import ResNet3DConfig, ResNet3DForVideoClassification
        >>> config = ResNet3DConfig(image_size=32, num_frames=4, num_labels=5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ResNet3DForVideoClassification(config).save_pretrained(folder)
        ...     spec = TeacherSpec(folder, 5, auto_class=AutoModelForVideoClassification, output="logits")
        ...     teacher = load_teacher(spec)
        >>> teacher.feature_size, teacher.train().training
        (5, False)
    """
    if spec.reference is None:
        raise ValueError(
            "got no teacher, expected 'library:name', a folder or a Hub id; set the configuration's teacher"
        )
    if ":" in spec.reference and not Path(spec.reference).exists():
        return load_image_encoder(spec.reference, spec.image_size)
    model = load_model(spec.auto_class, spec.reference)
    # An encoder goes through the backbone contract, so that its features are its own pooling.
    return FrozenModel(model if spec.output == "logits" else as_backbone(model), spec.feature_size, spec.output)


class Student:
    """A pretraining model that learns from a frozen one; placed before the model class among the bases.

    The teacher follows the model's device and dtype and is copied and pickled with it, but is not one of its modules:
    it is not saved, trained or passed to the optimiser.

    Attributes:
        teacher: the frozen model, None until `load_teacher` or `attach_teacher` attaches one.
    """

    teacher: Teacher | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        object.__setattr__(self, "teacher", None)

    @property
    def teacher_spec(self) -> TeacherSpec | None:
        """The teacher that the objective needs, or None."""
        return None

    def load_teacher(self, teacher: Teacher | None = None) -> Any:
        """Attach the frozen model that computes the targets.

        Args:
            teacher: a teacher; None loads the one of `teacher_spec`.

        Returns:
            The model itself. Nothing happens if the objective needs no teacher.

        Raises:
            ValueError: if no teacher is named, or its features have another width than the method expects.
        """
        spec = self.teacher_spec
        if spec is None:
            return self
        teacher = load_teacher(spec) if teacher is None else teacher
        if teacher.feature_size != spec.feature_size:
            raise ValueError(
                f"the teacher's features have width {teacher.feature_size}, but teacher_hidden_size="
                f"{spec.feature_size}; set it to the teacher's width"
            )
        # Bypass nn.Module's registry, so that the teacher is in neither the state dict nor the optimiser.
        object.__setattr__(self, "teacher", teacher.to(self.device))  # type: ignore[attr-defined]
        return self

    def attached_teacher(self, purpose: str) -> Teacher:
        """The teacher, or a ValueError that names the purpose it is needed for."""
        if self.teacher is None:
            reference = None if self.teacher_spec is None else self.teacher_spec.reference
            raise ValueError(
                f"{purpose} needs the teacher {reference!r}, and none is attached: call load_teacher() once, or pass "
                "the teacher's features"
            )
        return self.teacher

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[misc]
        if self.teacher is not None:
            self.teacher._apply(fn, recurse)
        return self


def attach_teacher(model: nn.Module, cache: str | Path | None = None) -> None:
    """Load and attach the teacher of a pretraining model, if its objective needs one.

    Args:
        model: a pretraining model; a teacher that is attached already is kept.
        cache: folder that caches the teacher's features, see `CachedTeacher`; None disables caching.

    Raises:
        ValueError: if the model needs a teacher and its configuration names none.
    """
    if not isinstance(model, Student) or model.teacher_spec is None:
        return
    if model.teacher is None:
        model.load_teacher()
    if cache is not None and not isinstance(model.teacher, CachedTeacher):
        model.load_teacher(CachedTeacher(model.attached_teacher("a cache"), cache, str(model.teacher_spec.reference)))
