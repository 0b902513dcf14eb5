"""A gallery of skeletons: recordings as animations, with the augmentations of contrastive learning beside them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tubelets.data.build.skeleton_sets import recording_bytes
from tubelets.data.modalities.skeleton_files import read_recording
from tubelets.skeletons import AUGMENTATIONS, SkeletonLayout, ViewSettings, layout_named
from tubelets.visualization.skeletons import augmentation_panels, save_skeleton_gif, turned_upright


@dataclass(frozen=True)
class SkeletonGallery:
    """What a gallery of skeletons shows.

    Attributes:
        recordings: files of any format of `tubelets.data.modalities.skeleton_files`, or folders with a file per frame.
        layout: name of the layout of files that do not state it; None is not possible for these.
        augmentations: those that are shown, each alone and all together.
        num_frames: frames of an animation.
        size: side of a panel in pixels.
        seed: seed of all draws.

    Raises:
        ValueError: if there is no recording.

    Example:
        >>> SkeletonGallery([Path("walk.npy")], layout="kinect-25").num_frames
        64
    """

    recordings: list[Path]
    layout: str | None = None
    augmentations: tuple[str, ...] = AUGMENTATIONS
    num_frames: int = 64
    size: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.recordings:
            raise ValueError("there is no recording to draw; give --skeletons FILE")

    def save(self, output_dir: Path) -> list[Path]:
        """Draw a GIF for each recording.

        Args:
            output_dir: folder of the pictures.

        Returns:
            The pictures.

        Raises:
            tubelets.data.modalities.modality.BadMediumError: if a file cannot be read.
            ValueError: if the layout of a file is not known.
        """
        output_dir.mkdir(parents=True, exist_ok=True)
        written = []
        for number, path in enumerate(self.recordings):
            recording, layout, upwards = self.read(path)
            turned, axes = turned_upright(recording, layout)
            settings = ViewSettings(self.num_frames, self.augmentations, num_dimensions=turned.shape[-1])
            generator = torch.Generator().manual_seed(self.seed + number)
            panels = augmentation_panels(turned, layout, settings, generator)
            target = output_dir / f"{path.stem}_{number}.gif"
            save_skeleton_gif(panels, layout, target, size=self.size, axes=axes, upwards=upwards)
            written.append(target)
        return written

    def read(self, path: Path) -> tuple[Tensor, SkeletonLayout, bool]:
        """A recording `(bodies, frames, joints, positions)`, its layout, and whether its heights grow upwards.

        Raises:
            ValueError: if nothing says the layout.
        """
        found = read_recording(recording_bytes(path), path.name)
        if found.layout is None and self.layout is None:
            raise ValueError(f"{path} does not state its layout; name it with --layout")
        layout = found.layout or layout_named(str(self.layout))
        joints = torch.from_numpy(found.joints)
        # Pose estimators give pixels, which grow downwards.
        return (joints[..., :-1], layout, False) if found.has_confidence else (joints, layout, True)
