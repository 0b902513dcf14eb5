"""Sets of named RGBA objects for synthetic motion: image folders, Hub data sets, emoji, drawn shapes."""

import functools
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from tubelets.data.assets.fetching import fetch
from tubelets.data.assets.table import EMOJI, OBJECT_ASSETS
from tubelets.data.seeds import stable_seed
from tubelets.motion import weighted_by_alpha
from tubelets.motion.shapes import COLOURS, SHAPES, draw_shapes

TEST_SHARE = 0.25
"""Share of the names of an object set that is held out for testing."""

# Boxes in the papers' settings are at most about this wide at 224 pixels; more detail would only cost memory.
MAX_SIDE = 256
# Far more than MAX_SIDE needs, and little memory to decode.
MAX_PIXELS = 2**25
IMAGE_SUFFIXES = frozenset({".png", ".webp", ".tif", ".tiff", ".gif"})


class ObjectSet(ABC):
    """A list of RGBA images with names.

    Attributes:
        names: name of each object in captions; several objects may share one.
        ids: unique identifier of each object.
        categories: coarse category of each object.

    Example:
        >>> objects = ShapeObjects()
        >>> len(objects), objects.names[0], objects[0].shape
        (64, 'red circle', torch.Size([4, 128, 128]))
    """

    names: list[str]
    ids: list[str]
    categories: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def __getitem__(self, index: int) -> Tensor:
        """Read an object as uint8 RGBA `(4, rows, columns)`, at most `MAX_SIDE` on its longer side."""

    def weighted(self, index: int) -> Tensor:
        """Return an object with premultiplied colours, for the fastest `tubelets.motion.object_patches`; cached.

        Args:
            index: index of the object.

        Returns:
            Uint8 `(4, rows, columns)`, see `tubelets.motion.weighted_by_alpha`.

        Example:
            >>> ShapeObjects().weighted(0)[:, 0, 0].tolist()
            [0, 0, 0, 0]
        """
        return _remember(self._weighted, index, lambda: weighted_by_alpha(self[index]))

    @functools.cached_property
    def _weighted(self) -> dict[int, Tensor]:
        return {}

    def index(self, object_id: str) -> int:
        """Return the index of an object by its id.

        Raises:
            KeyError: if the object does not exist.

        Example:
            >>> ShapeObjects().index("blue square")
            10
        """
        try:
            return self._places[object_id]
        except KeyError:
            raise KeyError(f"object {object_id!r} is not in this set of {len(self)} objects") from None

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.ids)}

    def subset(self, places: Sequence[int]) -> "ObjectSet":
        """Return a subset of the objects.

        Args:
            places: indices of the objects.

        Returns:
            A set that reads its objects from this one.

        Example:
            >>> ShapeObjects().subset([3, 5]).names
            ['yellow circle', 'black circle']
        """
        return _Subset(self, places)

    def split(self, share: float, seed: int = 0) -> tuple["ObjectSet", "ObjectSet"]:
        """Split the objects so that no name is in both parts.

        Args:
            share: share of the names in the second set, in (0, 1).
            seed: seed of the split.

        Returns:
            Two sets; each has at least one name.

        Raises:
            ValueError: if the share is out of range, or all objects have one name.

        Example:
            >>> many, few = ShapeObjects().split(0.25)
            >>> len(many), len(few), set(many.names) & set(few.names)
            (48, 16, set())
        """
        # By hash, so that a name stays in its part when other objects are added or removed.
        order = sorted(set(self.names), key=lambda name: stable_seed(seed, name))
        if not 0 < share < 1 or len(order) < 2:
            raise ValueError(f"share must lie in (0, 1) and the set needs two names, got {share} and {len(order)}")
        chosen = set(order[: min(len(order) - 1, max(1, round(share * len(order))))])
        second = [name in chosen for name in self.names]
        places = range(len(self))
        return self.subset([i for i in places if not second[i]]), self.subset([i for i in places if second[i]])


class _Subset(ObjectSet):
    def __init__(self, objects: ObjectSet, places: Sequence[int]) -> None:
        self._objects, self._chosen = objects, list(places)
        self.names, self.ids, self.categories = (
            [values[place] for place in self._chosen] for values in (objects.names, objects.ids, objects.categories)
        )

    def __getitem__(self, index: int) -> Tensor:
        return self._objects[self._chosen[index]]


class ShapeObjects(ObjectSet):
    """Coloured shapes, every shape in every colour, drawn on demand.

    Args:
        size: side of the images in pixels.

    Example:
        >>> ShapeObjects().categories[:2]
        ['circle', 'circle']
    """

    def __init__(self, size: int = 128) -> None:
        self._kinds = [(shape, colour) for shape in SHAPES for colour in COLOURS]
        self._size = size
        self.names = [f"{colour} {shape}" for shape, colour in self._kinds]
        self.ids = self.names
        self.categories = [shape for shape, _ in self._kinds]

    def __getitem__(self, index: int) -> Tensor:
        shape, colour = self._kinds[index]
        return draw_shapes([shape], [colour], self._size)[0]


class FileObjects(ObjectSet):
    """Image files with alpha; recently read ones are cached.

    Args:
        paths: the files.
        names: name of each object.
        ids: unique identifier of each object.
        categories: category of each object; by default its name.

    Raises:
        ValueError: if the list is empty, an id occurs twice, or the lists differ in length.

    Example:
        >>> FileObjects([Path("dog/1.png")], ["dog"], ["dog/1.png"]).categories
        ['dog']
    """

    def __init__(
        self,
        paths: Sequence[Path],
        names: Sequence[str],
        ids: Sequence[str],
        categories: Sequence[str] | None = None,
    ) -> None:
        kinds = list(names if categories is None else categories)
        if not paths or not len(paths) == len(names) == len(ids) == len(kinds) or len(set(ids)) != len(ids):
            raise ValueError(
                f"objects need a file, a name, a unique id and a category each, at least one; got {len(paths)} files, "
                f"{len(names)} names, {len(set(ids))} different ids and {len(kinds)} categories"
            )
        self._paths = list(paths)
        self.names, self.ids, self.categories = list(names), list(ids), kinds
        self._images: dict[int, Tensor] = {}

    def __getitem__(self, index: int) -> Tensor:
        return _remember(self._images, index, lambda: read_object(self._paths[index], self.ids[index]))


class DatasetObjects(ObjectSet):
    """A data set with a column of images with alpha, for example `datasets.load_dataset(name, split="train")`.

    Args:
        dataset: the data set.
        image_column: its column of images.
        label_column: column of class labels or names; `None` names every object "object".
        folder: folder of the images, for rows with paths; those that `datasets` has downloaded are found without it.

    Raises:
        ValueError: if a column is missing.

    Example:
        >>> from datasets import Dataset, Features
        >>> from datasets import Image as ImageColumn
        >>> file = io.BytesIO()
        >>> Image.new("RGBA", (4, 2)).save(file, "PNG")
        >>> images = [{"bytes": file.getvalue(), "path": None}]
        >>> dataset = Dataset.from_dict({"image": images}, Features({"image": ImageColumn()}))
        >>> objects = DatasetObjects(dataset, "image", None)
        >>> objects[0].shape
        torch.Size([4, 2, 4])
    """

    def __init__(
        self,
        dataset: Any,
        image_column: str = "image",
        label_column: str | None = "label",
        folder: str | Path | None = None,
    ) -> None:
        import datasets

        own = [datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH]
        self._folders = [Path(each).resolve() for each in [*own, *([] if folder is None else [folder])]]

        wanted = [column for column in (image_column, label_column) if column is not None]
        if missing := [column for column in wanted if column not in dataset.features]:
            raise ValueError(f"the data set has no column {missing[0]!r}; its columns are {list(dataset.features)}")
        self._dataset = dataset.cast_column(image_column, datasets.Image(decode=False))
        self._column = image_column
        labels = ["object"] * len(dataset) if label_column is None else dataset[label_column]
        feature = dataset.features[label_column] if label_column is not None else None
        if isinstance(feature, datasets.ClassLabel):
            labels = [feature.int2str(label) for label in labels]
        self.categories = [str(label) for label in labels]
        self.names = [noun_of(label) for label in self.categories]
        self.ids = [str(place) for place in range(len(dataset))]
        self._images: dict[int, Tensor] = {}

    def _checked(self, path: str | None, name: str) -> Path:
        """A file that a row names, which must be one of the data set's own: rows may be untrusted."""
        if path is not None and any(Path(path).resolve().is_relative_to(folder) for folder in self._folders):
            return Path(path)
        raise ValueError(
            f"object {name!r} is the file {path}, which is not of this data set; store the bytes of its images, or "
            "name the folder of its files as `folder`"
        )

    def __getitem__(self, index: int) -> Tensor:
        def read() -> Tensor:
            cell = self._dataset[index][self._column]
            name = self.ids[index]
            source = self._checked(cell["path"], name) if cell["bytes"] is None else cell["bytes"]
            return read_object(source, name)

        return _remember(self._images, index, read)


def _remember(images: dict[int, Tensor], index: int, read: Any) -> Tensor:
    """Read an image through a cache of 512 images (about 100 MB)."""
    if index not in images:
        images[index] = read()
        if len(images) > 512:
            del images[next(iter(images))]
    return images[index]


def read_object(source: Path | bytes, name: str) -> Tensor:
    """Read an image with alpha.

    Args:
        source: the file or its bytes.
        name: name in error messages.

    Returns:
        Uint8 RGBA `(4, rows, columns)`, reduced to `MAX_SIDE` if it is larger.

    Raises:
        ValueError: if the source is not an image, or has no alpha channel.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("RGBA", (6, 5), (1, 2, 3, 128)).save(file, "PNG")
        >>> read_object(file.getvalue(), "grey")[:, 0, 0].tolist()
        [1, 2, 3, 128]
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"object {name!r} has {image.width} x {image.height} pixels, more than {MAX_PIXELS} in all; make "
                    "it smaller, or remove it from the set"
                )
            if not image.has_transparency_data:
                raise ValueError(f"object {name!r} is an image without alpha ({image.mode}); objects must be cut out")
            rgba = image.convert("RGBA")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise ValueError(f"object {name!r} cannot be read as an image ({error}); remove it from the set") from error
    if max(rgba.size) > MAX_SIDE:
        rgba.thumbnail((MAX_SIDE, MAX_SIDE))
    return torch.from_numpy(np.array(rgba)).permute(2, 0, 1).contiguous()


def noun_of(label: str) -> str:
    """Turn a class name into a noun for captions.

    Args:
        label: class name, for example from LVIS.

    Returns:
        Lower case, without underscores and parenthesised parts.

    Example:
        >>> noun_of("arctic_(type_of_shoe)"), noun_of("Aerosol_can")
        ('arctic', 'aerosol can')
    """
    plain = re.sub(r"\([^)]*\)", " ", label.replace("_", " "))
    return " ".join(plain.split()).lower() or label.lower()


def folder_objects(folder: str | Path) -> FileObjects:
    """Open the objects of `folder/<name>/<image>` or `folder/<name>.<suffix>`.

    Args:
        folder: the folder; files with suffixes other than `IMAGE_SUFFIXES` are ignored.

    Returns:
        The objects, sorted by path.

    Raises:
        ValueError: if the folder has no images.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "guitar").mkdir()
        ...     Image.new("RGBA", (2, 2)).save(Path(folder, "guitar", "1.png"))
        ...     folder_objects(folder).names
        ['guitar']
    """
    folder = Path(folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not paths:
        raise ValueError(f"{folder} contains no image with a suffix among {', '.join(sorted(IMAGE_SUFFIXES))}")
    kinds = [path.parent.name if path.parent != folder else path.stem for path in paths]
    ids = [path.relative_to(folder).as_posix() for path in paths]
    return FileObjects(paths, [noun_of(kind) for kind in kinds], ids, kinds)


def emoji_objects(cache_dir: str | Path | None = None) -> FileObjects:
    """Open the emoji set: 220 animals, foods, vehicles and things; fetched if it is not in the cache (16 MB).

    Args:
        cache_dir: the cache folder; `None` for the default one.

    Returns:
        The objects; their ids are their names.

    Raises:
        AssetError: if the set cannot be fetched.
    """
    asset = OBJECT_ASSETS[0]
    fetch([asset.name], cache_dir, progress=False)
    paths = [asset.local_path(emoji.member, cache_dir) for emoji in EMOJI]
    names = [emoji.name for emoji in EMOJI]
    return FileObjects(paths, names, names, [emoji.category for emoji in EMOJI])


def open_objects(source: str | Path) -> ObjectSet:
    """Open a set of objects.

    Args:
        source: "shapes", "emoji", a folder of images (see `folder_objects`), or the name of a Hub data set with a
            column `image` and optionally a column `label` of names. "shapes:train", "emoji:test" and so on select the
            parts that `build_moving_objects` uses for its splits, which share no names.

    Returns:
        The objects.

    Raises:
        ValueError: if the source is none of these, or has no objects.

    Example:
        >>> len(open_objects("shapes")), len(open_objects("shapes:test"))
        (64, 16)
    """
    whole, _, part = str(source).partition(":")
    if whole in ("shapes", "emoji") and part in ("train", "test"):
        return open_objects(whole).split(TEST_SHARE)[part == "test"]
    if source == "shapes":
        return ShapeObjects()
    if source == "emoji":
        return emoji_objects()
    if Path(source).is_dir():
        return folder_objects(source)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise ValueError(
            f"{str(source)!r} is not a set of objects; give 'shapes', 'emoji', a folder, or a Hub data set 'owner/name'"
        )
    from datasets import load_dataset

    dataset = load_dataset(str(source), split="train")
    return DatasetObjects(dataset, label_column="label" if "label" in dataset.features else None)
