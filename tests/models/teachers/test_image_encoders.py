"""Frozen image encoders from folders, and the teacher that SIGMA attaches."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from tubelets import SigmaConfig, SigmaForPreTraining, SmileConfig, SmileForPreTraining
from tubelets.masking import TubeMaskGenerator
from tubelets.models.methods.smile.conversion_smile import teacher_from_official
from tubelets.models.teachers import CachedTeacher, attach_teacher
from tubelets.models.teachers.image_encoders import FrozenImageEncoder, OpenClipImageEncoder, TransformersImageEncoder
from tubelets.models.teachers.image_libraries import load_image_encoder

VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}


def scattered(model: Any) -> Any:
    """The model with parameters and statistics that are none of an initialisation's."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape))
    return model.eval()


def images(height: int = 32, width: int = 32, count: int = 3) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def as_tokens(feature_map: Tensor, grid: tuple[int, int]) -> Tensor:
    if tuple(feature_map.shape[2:]) != grid:
        feature_map = F.interpolate(feature_map, size=grid, mode="bilinear", align_corners=False)
    return feature_map.flatten(2).transpose(1, 2)


def save_transformers(kind: str, folder: Path, **changes: Any) -> Any:
    import transformers

    models = {
        "dino": ("ViTModel", "ViTConfig", VIT),
        "dinov2": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", VIT | {"num_register_tokens": 3}),
        "clip": ("CLIPVisionModel", "CLIPVisionConfig", VIT),
        "siglip": ("SiglipVisionModel", "SiglipVisionConfig", VIT),
        "resnet": ("ResNetModel", "ResNetConfig", {"embedding_size": 8, "hidden_sizes": [8, 24], "depths": [1, 1]}),
        "convnext": ("ConvNextModel", "ConvNextConfig", {"hidden_sizes": [8, 24], "depths": [1, 1], "num_stages": 2}),
    }
    model_class, config_class, sizes = models[kind]
    extra = {} if kind == "resnet" else {"image_size": 32}
    if kind == "resnet":
        sizes = sizes | {"layer_type": "basic"}
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**{**sizes, **extra, **changes}))
    scattered(model).save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["dino", "dinov2", "clip", "siglip"])
@pytest.mark.parametrize("grid", [(4, 4), (2, 2), (3, 5)])
def test_transformers_vits(kind: str, grid: tuple[int, int], tmp_path: Path) -> None:
    model = save_transformers(kind, tmp_path)
    encoder = load_image_encoder(f"transformers:{tmp_path}", 32)
    with torch.no_grad():
        hidden = model(pixel_values=images()).last_hidden_state
        if kind in ("clip", "siglip"):
            tower = getattr(model, "vision_model", model)
            final = tower.encoder(
                tower.embeddings(images()) if kind == "siglip" else tower.pre_layrnorm(tower.embeddings(images()))
            )
            hidden = tower.post_layernorm(final.last_hidden_state)
    prefix = {"dino": 1, "dinov2": 4, "clip": 1, "siglip": 0}[kind]
    patches = hidden[:, prefix:].transpose(1, 2).unflatten(2, (4, 4))
    features = encoder(images(), grid)
    assert encoder.feature_size == 24
    assert not features.requires_grad
    torch.testing.assert_close(features, as_tokens(patches, grid), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["dino", "dinov2", "clip", "siglip", "convnext"])
@pytest.mark.parametrize(("height", "width"), [(48, 48), (48, 32), (32, 48)])
def test_transformers_models_take_images_of_another_size(kind: str, height: int, width: int, tmp_path: Path) -> None:
    save_transformers(kind, tmp_path)
    encoder = load_image_encoder(f"transformers:{tmp_path}", (height, width))
    grid = (height // 8, width // 8)
    assert encoder(images(height, width), grid).shape == (3, grid[0] * grid[1], 24)


def test_the_layers_of_a_library_are_left_as_they_are(tmp_path: Path) -> None:
    model = save_transformers("clip", tmp_path)
    found = [type(module) for module in load_image_encoder(f"transformers:{tmp_path}", 32).model.modules()]
    assert found == [type(module) for module in model.modules()]


@pytest.mark.parametrize("kind", ["resnet", "convnext"])
def test_transformers_cnns(kind: str, tmp_path: Path) -> None:
    model = save_transformers(kind, tmp_path)
    encoder = load_image_encoder(f"transformers:{tmp_path}", 32)
    with torch.no_grad():
        feature_map = model(pixel_values=images()).last_hidden_state
    assert encoder.feature_size == feature_map.shape[1] == 24
    torch.testing.assert_close(encoder(images(), (2, 2)), as_tokens(feature_map, (2, 2)))


def save_timm(architecture: str, folder: Path, **model_args: Any) -> Any:
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(0)
    model = scattered(timm.create_model(architecture, pretrained=False, **model_args))
    save_for_hf(model, folder, model_args=model_args)
    return model


TIMM_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32, "reg_tokens": 4}


@pytest.mark.parametrize("grid", [(4, 4), (2, 2), (3, 5)])
def test_timm_vits_with_registers(grid: tuple[int, int], tmp_path: Path) -> None:
    model = save_timm("vit_tiny_patch16_224", tmp_path, **TIMM_VIT)
    encoder = load_image_encoder(f"timm:local-dir:{tmp_path}", 32)
    with torch.no_grad():
        patches = model.forward_features(images())[:, 5:].transpose(1, 2).unflatten(2, (4, 4))
    assert encoder.feature_size == 24
    torch.testing.assert_close(encoder(images(), grid), as_tokens(patches, grid), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (48, 32), (32, 48)])
def test_timm_vits_take_images_of_another_size(height: int, width: int, tmp_path: Path) -> None:
    save_timm("vit_tiny_patch16_224", tmp_path, **TIMM_VIT)
    encoder = load_image_encoder(f"timm:local-dir:{tmp_path}", (height, width))
    grid = (height // 8, width // 8)
    assert encoder(images(height, width), grid).shape == (3, grid[0] * grid[1], 24)


def test_timm_cnns_give_their_map_of_stride_sixteen(tmp_path: Path) -> None:
    model = save_timm("resnet10t", tmp_path, channels=(8, 12, 20, 28))
    encoder = load_image_encoder(f"timm:local-dir:{tmp_path}", 64)
    with torch.no_grad():
        stem = model.maxpool(model.act1(model.bn1(model.conv1(images(64, 64)))))
        feature_map = model.layer3(model.layer2(model.layer1(stem)))
    assert encoder.feature_size == 20
    assert feature_map.shape[2:] == (4, 4)
    torch.testing.assert_close(encoder(images(64, 64), (4, 4)), as_tokens(feature_map, (4, 4)), atol=1e-4, rtol=1e-4)


def save_open_clip(folder: Path) -> Any:
    import open_clip
    from safetensors.torch import save_file

    vision = {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1}
    sizes = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    model = scattered(open_clip.model.CLIP(**sizes))
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": sizes, "preprocess_cfg": preprocess}))
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return model


@pytest.mark.parametrize("grid", [(4, 4), (2, 2)])
def test_open_clip_towers(grid: tuple[int, int], tmp_path: Path) -> None:
    model = save_open_clip(tmp_path)
    encoder = load_image_encoder(f"open_clip:local-dir:{tmp_path}", 32)
    model.visual.output_tokens = True
    with torch.no_grad():
        patches = model.visual(images())[1].transpose(1, 2).unflatten(2, (4, 4))
    assert encoder.feature_size == 24
    torch.testing.assert_close(encoder(images(), grid), as_tokens(patches, grid), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (48, 32)])
def test_open_clip_towers_take_images_of_another_size(height: int, width: int, tmp_path: Path) -> None:
    save_open_clip(tmp_path)
    encoder = load_image_encoder(f"open_clip:local-dir:{tmp_path}", (height, width))
    grid = (height // 8, width // 8)
    assert encoder(images(height, width), grid).shape == (3, grid[0] * grid[1], 24)


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18", "timm:", ""])
def test_a_name_without_a_known_library_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}'.*transformers, timm, open_clip"):
        load_image_encoder(name)


class Teacher(FrozenImageEncoder):
    """Patches of 8 pixels through one layer, with dropout that evaluation mode switches off."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.feature_size = width
        self.layer = nn.Sequential(nn.Conv2d(3, width, 8, 8), nn.Dropout(0.5))
        self.freeze()

    def feature_map(self, images: Tensor) -> Tensor:
        return self.layer(images)


def student(**changes: Any) -> SigmaForPreTraining:
    sizes: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_frames": 6, "hidden_size": 24}
    sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "decoder_hidden_size": 16}
    sizes |= {"decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16}
    sizes |= {"target_type": "dino_v1", "teacher_hidden_size": 12, "num_prototypes": 6, "mask_ratio": 0.5}
    torch.manual_seed(1)
    return SigmaForPreTraining(SigmaConfig(**{**sizes, **changes}))


def clips() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 6, 3, 32, 32, generator=generator), TubeMaskGenerator((3, 4, 4), 0.5)(2, generator=generator)


def test_an_attached_teacher_is_no_part_of_the_model() -> None:
    model = student()
    keys, modules = set(model.state_dict()), len(list(model.modules()))
    assert model.load_teacher(Teacher()) is model
    assert set(model.state_dict()) == keys
    assert len(list(model.modules())) == modules
    teacher: Any = model.teacher
    mine = {id(parameter) for parameter in model.parameters()}
    assert not any(id(parameter) in mine or parameter.requires_grad for parameter in teacher.parameters())
    model.train()
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    model(*clips()).loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_an_attached_teacher_follows_the_models_dtype() -> None:
    model = student().load_teacher(Teacher())
    for dtype in (torch.float64, torch.bfloat16):
        model.to(dtype)
        assert {parameter.dtype for parameter in model.teacher.parameters()} == {dtype}
    assert model.teacher_features(clips()[0].bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("loss_type", ["prototypes", "regression"])
def test_the_teacher_sees_the_first_frame_of_each_tube(loss_type: str) -> None:
    model, (video, mask) = student(loss_type=loss_type).load_teacher(Teacher()).eval(), clips()
    by_hand = torch.cat([model.teacher(video[:, frame], (4, 4)) for frame in (0, 2, 4)], dim=1)
    attached, given = model(video, mask), model(video, mask, target_features=by_hand)
    torch.testing.assert_close(attached.targets, given.targets)
    torch.testing.assert_close(attached.loss, given.loss)
    deviation = by_hand.std(dim=1, keepdim=True) + 1e-6
    expected = ((by_hand - by_hand.mean(dim=1, keepdim=True)) / deviation)[mask].view(2, -1, 12)
    torch.testing.assert_close(attached.targets, expected, atol=1e-5, rtol=1e-5)


def test_a_teacher_of_another_width_is_refused_by_value() -> None:
    with pytest.raises(ValueError, match=r"width 16.*teacher_hidden_size=12"):
        student().load_teacher(Teacher(16))


def test_the_configured_teacher_is_loaded_from_its_folder(tmp_path: Path) -> None:
    save_transformers("dino", tmp_path)
    model = student(target_type="image_encoder", teacher=f"transformers:{tmp_path}", teacher_hidden_size=24)
    attach_teacher(model)
    assert model(*clips()).loss.isfinite()
    assert student(target_type="mlp").load_teacher().teacher is None


def test_open_clip_and_transformers_give_smile_the_same_targets(tmp_path: Path) -> None:
    model = save_open_clip(tmp_path)
    # The official teacher is OpenAI's visual tower, whose names are open_clip's; it has quick GELU and no projection.
    for block in model.visual.transformer.resblocks:
        block.mlp.gelu = QuickGELU()
    weights = {name: value for name, value in model.visual.state_dict().items() if name != "proj"}
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    sizes |= {"num_frames": 6, "target_type": "image_encoder", "teacher": "timm:none", "teacher_hidden_size": 24}
    student = SmileForPreTraining(SmileConfig(**sizes))
    video, mask = clips()
    targets = [
        student.load_teacher(teacher)(video, mask).targets
        for teacher in (OpenClipImageEncoder(model.visual), TransformersImageEncoder(teacher_from_official(weights, 2)))
    ]
    torch.testing.assert_close(*targets, atol=1e-5, rtol=1e-5)


def test_a_teacher_saved_from_the_official_file_is_reloaded_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "open_clip").mkdir()
    weights = {
        name: value
        for name, value in save_open_clip(tmp_path / "open_clip").visual.state_dict().items()
        if name != "proj"
    }
    tower = teacher_from_official(weights, 2)
    tower.save_pretrained(tmp_path / "teacher")
    reloaded = load_image_encoder(f"transformers:{tmp_path / 'teacher'}", 32)
    assert torch.equal(reloaded(images(), (4, 4)), TransformersImageEncoder(tower)(images(), (4, 4)))


def test_cached_features_are_those_of_the_encoder_and_are_computed_once(tmp_path: Path) -> None:
    encoder = Teacher()
    cached = CachedTeacher(encoder, tmp_path, "one")
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    first = cached(pictures, (4, 4))
    torch.testing.assert_close(first, encoder(pictures, (4, 4)))
    assert torch.equal(cached(pictures.flip(0), (4, 4)).flip(0), first)
    assert cached.num_computed == 3
    cached(pictures[:1] + 0.1, (4, 4))
    cached(pictures[:1], (2, 2))
    assert cached.num_computed == 5
    # Another encoder in the same folder reads nothing of it; another process with the same one reads all.
    assert CachedTeacher(Teacher(), tmp_path, "two")(pictures, (4, 4)).shape == first.shape
    again = CachedTeacher(Teacher(), tmp_path, "one")
    assert torch.equal(again(pictures, (4, 4)), first)
    assert again.num_computed == 0


def test_the_teacher_of_a_run_is_cached_where_the_recipe_says(tmp_path: Path) -> None:
    save_transformers("dino", tmp_path / "teacher")
    fields = {"target_type": "image_encoder", "teacher_hidden_size": 24, "loss_type": "regression"}
    model = student(teacher=f"transformers:{tmp_path / 'teacher'}", **fields)
    attach_teacher(model, tmp_path / "cache")
    losses = [model(*clips()).loss.item() for _ in range(2)]
    assert losses[0] == losses[1]
    assert model.teacher.num_computed == 6
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 6
