"""One transform for all media of a sample: geometry is drawn once, colours are changed in RGB frames alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tubelets.data.modalities.clips import Request
from tubelets.data.modalities.specs import VideoSpec
from tubelets.data.transforms.geometry import GeometricTransform, Geometry, PhotometricTransform, Resize, check_clip
from tubelets.data.transforms.spatial import Compose

Transform = Callable[[Tensor, torch.Generator], Tensor]


def transform_media(
    transform: Transform, values: Mapping[str, Any], requests: Sequence[Request], generator: torch.Generator
) -> dict[str, Any]:
    """Transform the spatial media of one clip.

    One medium is handed to the transform as it is. With several, the transform (or each part of a `Compose`) must be
    geometric or photometric. Geometry is drawn for the RGB frames, if there are any, and scaled for media of another
    size; a medium that its spec wants in another size than these frames is resized in the end. A mirrored optical flow
    points to the other side.

    Args:
        transform: What to apply.
        values: Values of the clip by argument.
        requests: What the values are; those whose modality is not spatial are left alone.
        generator: Random draws of the clip. RGB frames change in the same way whether other media lie beside them.

    Returns:
        All values.

    Raises:
        TypeError: There are several spatial media, and a part of the transform is neither geometric nor photometric.
    """
    spatial = [request for request in requests if request.modality.is_spatial]
    moved = dict(values)
    if len(spatial) == 1:
        argument = spatial[0].argument
        moved[argument] = transform(values[argument], generator)
    elif spatial:
        spatial.sort(key=lambda request: not _is_rgb(request))
        for part in _parts(transform):
            _apply(part, moved, spatial, generator)
        for request in spatial[1:]:
            if isinstance(request.spec, VideoSpec):
                moved[request.argument] = Resize(*request.spec.size)(moved[request.argument])
    return moved


def _apply(part: Any, values: dict[str, Any], spatial: Sequence[Request], generator: torch.Generator) -> None:
    """Apply one part of a transform to all media; the first one decides the draw."""
    if isinstance(part, GeometricTransform):
        geometry: Geometry = part.draw(*check_clip(values[spatial[0].argument]), generator)
        for request in spatial:
            value = values[request.argument]
            values[request.argument] = request.modality.move(value, request.spec, geometry, geometry.mirrored)
    elif isinstance(part, PhotometricTransform):
        for request in filter(_is_rgb, spatial):
            values[request.argument] = part(values[request.argument], generator)
    else:
        raise TypeError(
            f"{part!r} cannot be shared by {[request.argument for request in spatial]}: it is neither a "
            "GeometricTransform nor a PhotometricTransform; leave it out, or read one spatial medium"
        )


def _parts(transform: Any) -> list[Any]:
    """The parts of nested `Compose`s in order."""
    if not isinstance(transform, Compose):
        return [transform]
    return [part for each in transform.transforms for part in _parts(each)]


def _is_rgb(request: Request) -> bool:
    return isinstance(request.spec, VideoSpec) and request.spec.media == "video"
