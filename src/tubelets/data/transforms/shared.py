"""Apply one transform to all media of a sample: geometry is drawn once, colours change only in RGB frames."""

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

    A single medium is passed to the transform directly. With several, the transform (or each part of a `Compose`) must
    be geometric or photometric. Geometry is drawn for the RGB frames, if any, and scaled for media of other sizes. A
    medium whose spec has a different size from these frames is resized at the end. Mirroring negates horizontal optical
    flow.

    Args:
        transform: The transform.
        values: Values of the clip by argument.
        requests: The requests of the values; values of modalities that are not spatial are unchanged.
        generator: Random generator of the clip. RGB frames are transformed the same with and without other media.

    Returns:
        All values.

    Raises:
        TypeError: With several spatial media, if a part of the transform is neither geometric nor photometric.
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
            "GeometricTransform nor a PhotometricTransform; omit it, or read one spatial medium"
        )


def _parts(transform: Any) -> list[Any]:
    """The parts of nested `Compose`s in order."""
    if not isinstance(transform, Compose):
        return [transform]
    return [part for each in transform.transforms for part in _parts(each)]


def _is_rgb(request: Request) -> bool:
    return isinstance(request.spec, VideoSpec) and request.spec.media == "video"
