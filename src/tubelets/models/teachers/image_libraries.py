"""Image encoders by name: `library:name`, with the weights that the library finds under it.

Examples: `transformers:facebook/dino-vitb16`, `timm:vit_base_patch14_reg4_dinov2.lvd142m`,
`open_clip:ViT-B-16-quickgelu/openai`. The name is a Hub id or, for transformers, a local folder; for timm and open_clip
a folder is `local-dir:FOLDER`. `stand_in:efficientnet_lite0` is a small encoder that does not need the Hub, see
`stand_in_encoder`.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from safetensors import SafetensorError

from tubelets.models.common.errors import CheckpointLayoutError, UnsafeCheckpointError
from tubelets.models.common.safe_loading import load_config, load_model, no_questions, unpickling_reason
from tubelets.models.teachers.image_encoders import (
    FrozenImageEncoder,
    OpenClipImageEncoder,
    TimmImageEncoder,
    TransformersImageEncoder,
)
from tubelets.models.teachers.stand_in_encoder import load_stand_in


def _load_transformers(name: str, image_size: tuple[int, int]) -> FrozenImageEncoder:
    from transformers import AutoModel, CLIPVisionModel, SiglipVisionModel

    model_type = load_config(name).model_type
    towers: dict[str, Any] = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}
    return TransformersImageEncoder(load_model(towers.get(model_type, AutoModel), name))


def _load_timm(name: str, image_size: tuple[int, int]) -> FrozenImageEncoder:
    import timm

    try:
        model = timm.create_model(name, pretrained=True, num_classes=0, img_size=image_size)
    except TypeError:  # CNNs do not accept an image size
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
        name: `library:name`, see above.
        image_size: height and width of its input images in pixels.

    Returns:
        The encoder, without gradients.

    Raises:
        ValueError: if the name does not start with a known library.
        tubelets.models.common.errors.UnsafeCheckpointError: if the encoder's files contain code, or need code of their
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
    with safely(name):
        return LIBRARIES[library](rest, size)


@contextmanager
def safely(name: str) -> Iterator[None]:
    """While a library loads a model: no code of its repository is run, and errors say what is wrong with the files.

    Args:
        name: of the model, for messages.

    Raises:
        tubelets.models.common.errors.UnsafeCheckpointError: if its files contain code, or need code of their
            repository.
        tubelets.models.common.errors.CheckpointLayoutError: if its weights are corrupt.
    """
    try:
        with no_questions():
            yield
    except (pickle.UnpicklingError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "weights_only" not in str(error):
            raise
        # Not chained: torch's own words advise to switch the check off.
        raise UnsafeCheckpointError(
            f"{name} holds pickled objects that are not tensors, and is not read ({unpickling_reason(error)})"
        ) from None
    except SafetensorError as error:
        raise CheckpointLayoutError(f"{name}: its weights are corrupt or not safetensors ({error})") from error
    except ValueError as error:
        if "trust_remote_code" not in str(error) or isinstance(error, UnsafeCheckpointError):
            raise
        raise UnsafeCheckpointError(f"{name} needs code of its repository, which is never run") from None
