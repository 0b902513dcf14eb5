"""Teachers of any modality: frozen, outside the student's weights, loaded by reference, cached per sample."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForVideoClassification, VideoMAEConfig, VideoMAEModel

from tubelets import (
    ResNet3DConfig,
    ResNet3DForVideoClassification,
    ResNet3DModel,
    SigmaConfig,
    SigmaForPreTraining,
    StructuredNoiseAudioConfig,
    StructuredNoiseAudioModel,
)
from tubelets.models.teachers import (
    CachedTeacher,
    FrozenModel,
    Student,
    Teacher,
    TeacherSpec,
    attach_teacher,
    load_teacher,
)

RESNET = ResNet3DConfig(image_size=32, num_frames=4, num_labels=5)


def clips(count: int = 3) -> Tensor:
    return torch.randn(count, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Distilled(Student, nn.Module):
    """A small student of a video classifier's logits, with a layer of its own."""

    device = torch.device("cpu")

    def __init__(self, spec: TeacherSpec) -> None:
        super().__init__()
        self.spec = spec
        self.layer = nn.Linear(3, spec.feature_size)

    @property
    def teacher_spec(self) -> TeacherSpec:
        return self.spec

    def forward(self, pixel_values: Tensor) -> Tensor:
        targets = self.attached_teacher("distillation")(pixel_values)
        return (self.layer(pixel_values.mean(dim=(1, 3, 4))) - targets).square().mean()


@pytest.fixture
def spec(tmp_path: Path) -> TeacherSpec:
    torch.manual_seed(0)
    ResNet3DForVideoClassification(RESNET).save_pretrained(tmp_path / "classifier")
    return TeacherSpec(str(tmp_path / "classifier"), 5, auto_class=AutoModelForVideoClassification, output="logits")


def test_a_classifier_teaches_its_logits_and_stays_frozen(spec: TeacherSpec) -> None:
    student = Distilled(spec)
    attach_teacher(student)
    classifier: Any = ResNet3DForVideoClassification.from_pretrained(spec.reference).eval()
    student.train()
    before = {name: value.clone() for name, value in student.teacher.state_dict().items()}
    student(clips()).backward()
    torch.testing.assert_close(student.teacher(clips()), classifier(clips()).logits)
    assert not any(module.training for module in student.teacher.modules())
    # Batch norm would move its statistics in training mode.
    assert all(torch.equal(value, before[name]) for name, value in student.teacher.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in student.teacher.parameters())


def test_the_teacher_is_outside_the_students_weights_and_follows_it(spec: TeacherSpec) -> None:
    student = Distilled(spec)
    attach_teacher(student)
    assert set(student.state_dict()) == {"layer.weight", "layer.bias"}
    assert len(list(student.parameters())) == 2
    student.to(torch.float64)
    assert {parameter.dtype for parameter in student.teacher.parameters()} == {torch.float64}
    assert student.teacher(clips()).dtype == torch.float64  # inputs are cast


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_students_are_copied_and_pickled_with_their_teacher(spec: TeacherSpec, duplicate: Any) -> None:
    student = Distilled(spec)
    attach_teacher(student)
    other = duplicate(student)
    assert other.teacher is not student.teacher
    assert torch.equal(other(clips()), student(clips()))


def test_backbones_of_video_and_sound_teach_their_pooled_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ResNet3DModel(RESNET).save_pretrained(tmp_path / "video")
    sound_config = StructuredNoiseAudioConfig(
        max_length=32,
        num_mel_bins=32,
        mask_ratio=0.5,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
    )
    StructuredNoiseAudioModel(sound_config).save_pretrained(tmp_path / "sound")
    video = load_teacher(TeacherSpec(str(tmp_path / "video"), 512))
    sound = load_teacher(TeacherSpec(str(tmp_path / "sound"), 24))
    assert video(clips()).shape == (3, 512)
    assert sound(torch.zeros(2, 32, 32)).shape == (2, 24)


def test_another_width_or_output_is_refused_by_value(spec: TeacherSpec, tmp_path: Path) -> None:
    wrong = FrozenModel(ResNet3DForVideoClassification(RESNET), 7, "logits")
    with pytest.raises(ValueError, match=r"logits.*width 5, expected 7"):
        wrong(clips())
    with pytest.raises(ValueError, match=r"returns logits, expected 'pooler_output'"):
        FrozenModel(ResNet3DForVideoClassification(RESNET), 5)(clips())
    with pytest.raises(ValueError, match="width 7"):
        Distilled(spec).load_teacher(wrong)
    with pytest.raises(ValueError, match=r"distillation needs the teacher .*classifier"):
        Distilled(spec)(clips())


def test_models_without_a_teacher_are_left_alone() -> None:
    model = nn.Linear(2, 2)
    attach_teacher(model, "unused")
    assert not isinstance(model, Student)
    sizes = {"image_size": 32, "num_frames": 4, "num_hidden_layers": 1, "num_prototypes": 4}
    sigma = SigmaForPreTraining(SigmaConfig(**sizes))
    attach_teacher(sigma, "unused")
    assert sigma.teacher is None


class Mean(Teacher):
    """Counts the samples it sees."""

    feature_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.freeze()

    def forward(self, pixel_values: Tensor, scale: float = 1.0) -> Tensor:
        self.seen += len(pixel_values)
        return scale * pixel_values.float().mean(dim=(1, 3, 4))


def test_features_are_cached_by_content_or_by_id(tmp_path: Path) -> None:
    cached = CachedTeacher(Mean(), tmp_path, "mean")
    expected = clips().mean(dim=(1, 3, 4))
    for _ in range(2):
        torch.testing.assert_close(cached(clips()), expected)
    assert cached.teacher.seen == 3
    torch.testing.assert_close(cached(clips(), scale=2.0), 2 * expected)
    assert cached.teacher.seen == 6
    # With ids, the same sample is not computed again for another crop of it.
    by_id = cached(clips(), ids=["a", "b", "c"])
    torch.testing.assert_close(cached(clips().flip(4), ids=["a", "b", "c"]), by_id)
    torch.testing.assert_close(cached(clips()[:2], ids=["c", "d"])[0], by_id[2])
    assert cached.teacher.seen == 10
    with pytest.raises(ValueError, match="got 1 ids for 3 samples"):
        cached(clips(), ids=["a"])
    with pytest.raises(ValueError, match="needs a tensor among its arguments"):
        cached(scale=2.0)


def test_a_stock_encoder_teaches_with_its_own_pooling(tmp_path: Path) -> None:
    sizes = {"image_size": 16, "patch_size": 8, "num_frames": 4, "hidden_size": 24, "num_hidden_layers": 1}
    model = VideoMAEModel(VideoMAEConfig(**sizes, num_attention_heads=2, intermediate_size=32)).eval()
    model.save_pretrained(tmp_path)
    teacher = load_teacher(TeacherSpec(str(tmp_path), 24))
    clips = torch.randn(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(teacher(clips), model(clips).last_hidden_state.mean(dim=1))
