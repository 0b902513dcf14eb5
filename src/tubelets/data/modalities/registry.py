"""The modalities that sources, streams and the shard builder support; others are added from outside.

Example:
    >>> from tubelets.data.modalities.modality import Modality
    >>> class Lidar(Modality):
    ...     name, media, suffixes = "lidar", ("lidar",), ("pcd",)
    ...     def open(self, data, name, backend="auto"): ...
    >>> register_modality(Lidar())
    >>> modality_of_medium("lidar").name, unregister_modality("lidar")
    ('lidar', None)
"""

from collections.abc import Iterator

from tubelets.data.modalities.media import AudioModality, TextModality, VideoModality
from tubelets.data.modalities.modality import Modality
from tubelets.data.modalities.skeleton import SkeletonModality
from tubelets.data.modalities.specs import InputSpec

_MODALITIES: dict[str, Modality] = {
    modality.name: modality for modality in (VideoModality(), AudioModality(), SkeletonModality(), TextModality())
}


def register_modality(modality: Modality) -> None:
    """Add a modality; sources find its columns and streams decode its specs from now on.

    Register it before sources are opened and streams are made: these pass what they need to their workers.

    Args:
        modality: An instance; worker processes receive it pickled.

    Raises:
        ValueError: Its name, or one of its media, belongs to another modality.
    """
    for other in _MODALITIES.values():
        if type(other) is not type(modality) and (other.name == modality.name or {*other.media} & {*modality.media}):
            raise ValueError(
                f"modality {modality.name!r} with the media {modality.media} clashes with {other.name!r} with the "
                f"media {other.media}; choose other names"
            )
    _MODALITIES[modality.name] = modality


def unregister_modality(name: str) -> None:
    """Remove a modality that was added, for example at the end of a test.

    Args:
        name: Its name; unknown names are ignored.
    """
    _MODALITIES.pop(name, None)


def modalities() -> Iterator[Modality]:
    """All modalities, the built-in ones first.

    Example:
        >>> [modality.name for modality in modalities()]
        ['video', 'audio', 'skeleton', 'text']
    """
    return iter(tuple(_MODALITIES.values()))


def modality_named(name: str) -> Modality:
    """The modality with a name.

    Raises:
        KeyError: It is not registered.

    Example:
        >>> modality_named("audio").media
        ('audio',)
    """
    try:
        return _MODALITIES[name]
    except KeyError:
        raise KeyError(
            f"modality {name!r} is not registered; registered are {sorted(_MODALITIES)}: call register_modality"
        ) from None


def modality_of(spec: InputSpec) -> Modality:
    """The modality that decodes a spec; see `modality_named`."""
    return modality_named(spec.modality)


def modality_of_medium(medium: str) -> Modality | None:
    """The modality with a medium of this name, None if there is none.

    Example:
        >>> modality_of_medium("flow").name
        'video'
    """
    return next((each for each in modalities() if medium in each.media), None)


def modality_of_suffix(suffix: str) -> Modality | None:
    """The modality with files of this suffix (without the dot), None if there is none.

    Example:
        >>> modality_of_suffix("FLAC").name
        'audio'
    """
    return next((each for each in modalities() if suffix.lower() in each.suffixes), None)
