"""Registry of the modalities that sources, streams and the shard builder support.

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
    """Register a modality, so that sources find its columns and streams decode its specs.

    Register it before opening sources and creating streams, which pass it to their workers.

    Args:
        modality: An instance; worker processes receive it pickled.

    Raises:
        ValueError: Its name or one of its media belongs to another modality.
    """
    for other in _MODALITIES.values():
        if type(other) is not type(modality) and (other.name == modality.name or {*other.media} & {*modality.media}):
            raise ValueError(
                f"modality {modality.name!r} with the media {modality.media} clashes with {other.name!r} with the "
                f"media {other.media}; choose other names"
            )
    _MODALITIES[modality.name] = modality


def unregister_modality(name: str) -> None:
    """Unregister a modality, for example at the end of a test.

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
    """Return a modality by name.

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
    """Return the modality of a medium name, or None.

    Example:
        >>> modality_of_medium("flow").name
        'video'
    """
    return next((each for each in modalities() if medium in each.media), None)


def modality_of_suffix(suffix: str) -> Modality | None:
    """Return the modality of a file suffix without the dot, or None.

    Example:
        >>> modality_of_suffix("FLAC").name
        'audio'
    """
    return next((each for each in modalities() if suffix.lower() in each.suffixes), None)
