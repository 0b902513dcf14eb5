"""Frozen image encoders as feature targets: any model of transformers, timm or open_clip behind one interface.

An encoder is named `library:name`, for instance `transformers:facebook/dino-vitb16`,
`timm:vit_base_patch14_reg4_dinov2.lvd142m` or `open_clip:ViT-B-16-quickgelu/openai`. The name may be a Hub id or, for
transformers a local folder, for timm and open_clip `local-dir:FOLDER`. `stand_in:efficientnet_lite0` is a small encoder
that needs no Hub, see `tubelets.models.teachers.stand_in_encoder`.
"""

import hashlib
import os
import pickle
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tubelets.kernels.products import replace_linear
from tubelets.models.common.errors import UnsafeCheckpointError
from tubelets.models.common.safe_loading import load_auto


class FrozenImageEncoder(nn.Module, ABC):
    """A network without gradients that gives each image one feature vector per cell of a grid.

    Attributes:
        hidden_size: width of the features.
    """

    hidden_size: int

    def freeze(self) -> "FrozenImageEncoder":
        """Switch off gradients, stay in evaluation mode, and multiply as our own networks do."""
        replace_linear(self)
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> "FrozenImageEncoder":
        """Stay in evaluation mode whatever is asked: a target must not depend on dropout."""
        return super().train(False)

    @abstractmethod
    def feature_map(self, images: Tensor) -> Tensor:
        """Last features `(images, hidden_size, rows, columns)` on the encoder's own grid."""

    @torch.no_grad()
    def forward(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features on a token grid.

        Args:
            images: float `(images, channels, height, width)`, normalised.
            grid: rows and columns wanted; another grid of the encoder is resized bilinearly (sigma.md, section 3).

        Returns:
            `(images, rows * columns, hidden_size)`, row-major.
        """
        features = self.feature_map(images.to(next(self.parameters()).dtype))
        if tuple(features.shape[-2:]) != tuple(grid):
            features = F.interpolate(features.float(), size=grid, mode="bilinear", align_corners=False)
        return features.flatten(2).transpose(1, 2)


def _square_map(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Patch tokens `(B, prefix + rows * columns, D)`, last ones last, as a map `(B, D, rows, columns)`."""
    return tokens[:, -rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))


class TransformersImageEncoder(FrozenImageEncoder):
    """A vision model of transformers: DINO, DINOv2, ViT, CLIP and SigLIP towers, or a CNN.

    Args:
        model: the vision model; for CLIP-like towers the post layer norm is applied to all tokens, as SMILE does.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        self.patch_size = getattr(model.config, "patch_size", None)
        self.hidden_size = getattr(model.config, "hidden_size", None) or model.config.hidden_sizes[-1]
        # CLIP is the one tower whose last hidden state is from before its final norm.
        self.post_layernorm: Any = None
        if model.config.model_type.startswith("clip"):
            self.post_layernorm = getattr(model, "vision_model", model).post_layernorm
        self.freeze()

    def feature_map(self, images: Tensor) -> Tensor:
        """Last features `(images, hidden_size, rows, columns)`."""
        extra = {}
        height_width = tuple(images.shape[-2:])
        own = getattr(self.model.config, "image_size", None)
        if (
            self.patch_size is not None
            and own is not None
            and height_width != ((own, own) if isinstance(own, int) else tuple(own))
        ):
            extra["interpolate_pos_encoding"] = True
        hidden = self.model(pixel_values=images, **extra).last_hidden_state
        if hidden.ndim == 4:
            return hidden
        if self.post_layernorm is not None:
            hidden = self.post_layernorm(hidden)
        return _square_map(hidden, images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)


class TimmImageEncoder(FrozenImageEncoder):
    """A timm model; CNNs give the feature map of the wanted stride.

    Args:
        model: the model, without its classifier.
        stride: for CNNs, pixels per cell of the feature map that is used.

    Raises:
        ValueError: if a CNN has no feature map of that stride.
    """

    def __init__(self, model: nn.Module, stride: int = 16) -> None:
        super().__init__()
        self.model: Any = model
        self.is_vit = hasattr(model, "patch_embed") and hasattr(model, "num_prefix_tokens")
        if self.is_vit:
            self.hidden_size = model.num_features
        else:
            stages = list(getattr(model.feature_info, "info", model.feature_info))
            reductions = [stage["reduction"] for stage in stages]
            if stride not in reductions:
                raise ValueError(f"the encoder has feature maps of strides {reductions}, none of stride {stride}")
            self.stage = len(reductions) - 1 - reductions[::-1].index(stride)
            self.hidden_size = stages[self.stage]["num_chs"]
        self.freeze()

    def feature_map(self, images: Tensor) -> Tensor:
        """Last features `(images, hidden_size, rows, columns)`."""
        if not self.is_vit:
            return self.model.forward_intermediates(images, indices=[self.stage], intermediates_only=True)[0]
        patch_height, patch_width = self.model.patch_embed.patch_size
        tokens = self.model.forward_features(images)
        return _square_map(tokens, images.shape[-2] // patch_height, images.shape[-1] // patch_width)


class OpenClipImageEncoder(FrozenImageEncoder):
    """The visual tower of an open_clip model, post layer norm applied to all tokens.

    Args:
        visual: the tower.
    """

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual: Any = visual
        with torch.no_grad():
            self.hidden_size = self._tokens(torch.zeros(1, 3, *visual.image_size)).shape[1]
        self.freeze()

    def _tokens(self, images: Tensor) -> Tensor:
        outputs = self.visual.forward_intermediates(
            images, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NCHW"
        )
        return outputs["image_intermediates"][0]

    def feature_map(self, images: Tensor) -> Tensor:
        """Last features `(images, hidden_size, rows, columns)`."""
        return self._tokens(images)


class CachedImageEncoder(FrozenImageEncoder):
    """Keeps the features of every image it has seen in a folder, one safetensors file each.

    Worth its disk where the same pixels come again: still images, fixed crops, evaluation clips. A clip that is
    cropped anew or has new objects pasted into it in every epoch never comes again.

    Args:
        encoder: what computes features.
        folder: where they are kept; made if needed.
        name: what identifies the encoder; features of another name are not read.

    Example:
        >>> import tempfile, timm
        >>> encoder = TimmImageEncoder(timm.create_model("resnet18", num_classes=0))
        >>> images = torch.rand(2, 3, 32, 32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cached = CachedImageEncoder(encoder, folder, "resnet18")
        ...     first, second = cached(images, (2, 2)), cached(images, (2, 2))
        ...     print(torch.equal(first, second), cached.num_computed)
        True 2
    """

    def __init__(self, encoder: FrozenImageEncoder, folder: str | Path, name: str) -> None:
        super().__init__()
        self.encoder, self.folder, self.name = encoder, Path(folder), name
        self.hidden_size = encoder.hidden_size
        self.num_computed = 0
        self.freeze()

    def feature_map(self, images: Tensor) -> Tensor:
        """Features of the encoder behind, not cached."""
        return self.encoder.feature_map(images)

    @torch.no_grad()
    def forward(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features on a token grid, `(images, rows * columns, hidden_size)`, in the encoder's own precision."""
        paths = [self._path(image, grid) for image in images.detach().cpu()]
        missing = [index for index, path in enumerate(paths) if not path.is_file()]
        if missing:
            computed = self.encoder(images[missing], grid).cpu()
            self.num_computed += len(missing)
            for index, features in zip(missing, computed, strict=True):
                self._write(paths[index], features)
        return torch.stack([load_file(path)["features"] for path in paths]).to(images.device)

    def _path(self, image: Tensor, grid: tuple[int, int]) -> Path:
        """Named by everything that decides the features."""
        digest = hashlib.blake2b(f"{self.name} {grid} {image.dtype} {tuple(image.shape)}".encode(), digest_size=20)
        digest.update(image.contiguous().view(torch.uint8).numpy().tobytes())
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def _write(self, path: Path, features: Tensor) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may write the same features; whoever is last replaces a whole file by a whole file.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        save_file({"features": features.contiguous()}, temporary)
        temporary.replace(path)


def _load_transformers(name: str, image_size: tuple[int, int]) -> FrozenImageEncoder:
    from transformers import AutoConfig, AutoModel, CLIPVisionModel, SiglipVisionModel

    model_type = load_auto(AutoConfig, name).model_type
    towers: dict[str, Any] = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}
    return TransformersImageEncoder(load_auto(towers.get(model_type, AutoModel), name))


def _load_timm(name: str, image_size: tuple[int, int]) -> FrozenImageEncoder:
    import timm

    try:
        model = timm.create_model(name, pretrained=True, num_classes=0, img_size=image_size)
    except TypeError:  # CNNs take no image size
        model = timm.create_model(name, pretrained=True, num_classes=0)
    return TimmImageEncoder(model)


def _load_open_clip(name: str, image_size: tuple[int, int]) -> FrozenImageEncoder:
    import open_clip

    architecture, _, pretrained = (name, "", "") if ":" in name else name.partition("/")
    model = open_clip.create_model(
        architecture, pretrained=pretrained or None, require_pretrained=True, force_image_size=image_size
    )
    return OpenClipImageEncoder(model.visual)


def _load_stand_in(name: str, image_size: tuple[int, int]) -> FrozenImageEncoder:
    from tubelets.models.teachers.stand_in_encoder import load_stand_in

    return load_stand_in(name)


LIBRARIES = {
    "transformers": _load_transformers,
    "timm": _load_timm,
    "open_clip": _load_open_clip,
    "stand_in": _load_stand_in,
}


def load_image_encoder(name: str, image_size: int | list[int] | tuple[int, int] = 224) -> FrozenImageEncoder:
    """Load a frozen image encoder with its weights.

    Args:
        name: `library:name`; see the module's head.
        image_size: height and width of the images it will see, in pixels.

    Returns:
        The encoder, without gradients.

    Raises:
        ValueError: if the name has no known library in front.
        tubelets.models.common.errors.UnsafeCheckpointError: if the encoder's files hold code, or need code of their
            repository.

    Example:
        >>> load_image_encoder("resnet18")
        Traceback (most recent call last):
        ...
        ValueError: 'resnet18' is not 'library:name' with a library of transformers, timm, open_clip, stand_in
    """
    library, _, rest = name.partition(":")
    if library not in LIBRARIES or not rest:
        raise ValueError(f"{name!r} is not 'library:name' with a library of {', '.join(LIBRARIES)}")
    size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
    try:
        return LIBRARIES[library](rest, size)
    except (pickle.UnpicklingError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "weights_only" not in str(error):
            raise
        raise UnsafeCheckpointError(f"{name} holds pickled objects that are not tensors, and is not read") from error
