"""Where encoded videos and sounds come from: shards (Parquet, WebDataset tars) or a data set of the Hub."""

import functools
import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow.parquet as pq
from datasets import Audio, ClassLabel, DownloadConfig, Image, IterableDataset, List, Video, load_dataset
from datasets.utils.file_utils import xopen
from torch.utils.data import get_worker_info

from tubelets.data.modalities.video import BadVideoError
from tubelets.data.sources.shard_files import missing_shards, split_of

_BUILDERS = {".parquet": "parquet", ".tar": "webdataset"}
_VIDEO_KEYS = ("mp4", "webm", "avi", "mkv", "mov")
_AUDIO_KEYS = ("flac", "m4a", "mp3", "ogg", "opus", "wav")
_LABEL_COLUMNS = ("label", "labels", "cls")
_CAPTION_COLUMNS = ("caption", "txt", "text")
_ID_COLUMNS = ("clip_id", "__key__")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


class UnsafePathError(BadVideoError):
    """A row of a shard names a file that it has no business with."""


@dataclass(frozen=True)
class RawSample:
    """One row of a source, nothing of it decoded.

    Attributes:
        shard: Name of the shard it comes from, for messages.
        clip_id: Its id; the seed of its augmentations.
        data: The encoded video or sound, or None when only its path is stored.
        path: File name of an embedded video, otherwise the path or URL to read (stored relative paths start beside
            their shard).
        label: Class number, the list of them where a sample has several (or whatever else the label column holds), None
            if there is no such column.
        caption: Caption, None if there is no such column.
        sha256: Hexadecimal checksum of `data`, None if there is no such column.
    """

    shard: str
    clip_id: str
    data: bytes | None
    path: str | None
    label: Any = None
    caption: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class _Columns:
    """Names of the columns that are used, None for those that a source does not have."""

    video: str
    label: str | None
    caption: str | None
    clip_id: str | None
    sha256: str | None

    @classmethod
    def find(cls, features: dict[str, Any], video_column: str | None, where: str) -> "_Columns":
        """Choose columns by type and name."""
        video = video_column or _find_video(features, where)
        if video not in features:
            raise ValueError(f"{where} has no column {video!r} (video_column); its columns are {list(features)}")
        first = functools.partial(_first_present, columns=[name for name in features if name != video])
        return cls(video, first(_LABEL_COLUMNS), first(_CAPTION_COLUMNS), first(_ID_COLUMNS), first(("sha256",)))

    @property
    def used(self) -> list[str]:
        """The columns to read."""
        names = (self.video, self.label, self.caption, self.clip_id, self.sha256)
        return [name for name in names if name is not None]


class VideoSource:
    """Shards of encoded videos or sounds that can be read one by one, from any row on, in any process.

    Made by `open_source`. Iterating never splits the rows among DataLoader workers: whoever asks for shard i gets all
    of shard i.

    Attributes:
        num_shards: Number of shards.
        shard_names: A name for each shard, file names where they are known.
        class_names: Names of the classes in the order of their numbers, None when unknown.
        multi_label: Whether a label is a list of class numbers.
        annotations: Which of "label" and "caption" the rows have.
    """

    multi_label = False

    def __init__(
        self,
        dataset: IterableDataset,
        columns: _Columns,
        shard_names: Sequence[str],
        *,
        files: Sequence[str] = (),
        base: str = "",
        token: str | None = None,
    ) -> None:
        self.num_shards: int = dataset.num_shards
        self.shard_names = list(shard_names)
        label = None if columns.label is None else dataset.features[columns.label]
        if isinstance(label, List):
            self.multi_label, label = True, label.feature
        self.class_names: list[str] | None = list(label.names) if isinstance(label, ClassLabel) else None
        self.annotations = [name for name in ("label", "caption") if getattr(columns, name) is not None]
        self._columns = columns
        self._files = list(files)
        # A relative path in a row starts beside the shard that holds the row.
        self._bases = [file.rpartition("/")[0] for file in files] if files else [base] * self.num_shards
        self._token = token
        # `decode=False` keeps the file's bytes: otherwise each row would become an open decoder.
        stored = dataset.features[columns.video]
        kind = next((kind for kind in (Image, Audio) if isinstance(stored, kind)), Video)
        self._dataset = dataset.select_columns(columns.used).cast_column(columns.video, kind(decode=False))

    @functools.cached_property
    def num_samples(self) -> int | None:
        """Number of videos, None when counting them would mean reading them."""
        if self._files and all(file.endswith(".parquet") and "://" not in file for file in self._files):
            return sum(pq.read_metadata(file).num_rows for file in self._files)
        split = (self._dataset.info.splits or {}).get(str(self._dataset.split))
        return split.num_examples or None if split is not None else None

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[RawSample]:
        """Read one shard in its stored order.

        Args:
            index: Which shard, 0 to `num_shards - 1`.
            skip: Rows at its beginning that are read but not returned.

        Yields:
            The rows from `skip` on.

        Raises:
            IndexError: There is no such shard.
        """
        if not 0 <= index < self.num_shards:
            raise IndexError(f"shard {index} does not exist; the source has {self.num_shards} shards")
        if get_worker_info() is not None:
            # A forked worker must not wait for the event-loop thread of its parent.
            fsspec.asyn.reset_lock()
        shard = self._dataset.shard(num_shards=self.num_shards, index=index)
        # `iter` with a batch size, unlike `__iter__`, does not split the rows among DataLoader workers.
        for row, batch in enumerate(shard.iter(batch_size=1)):
            if row >= skip:
                yield self._sample(index, row, {name: values[0] for name, values in batch.items()})

    def read_labels(self, index: int) -> list[Any]:
        """Read the labels of a local Parquet shard, and nothing else of it.

        Args:
            index: Which shard.

        Returns:
            The label of each row, as `iterate_shard` gives it.

        Raises:
            ValueError: The shard is no Parquet file on this machine, or has no labels.
        """
        if self._columns.label is None:
            raise ValueError(f"{self.shard_names[index]} has no labels")
        table = pq.read_table(self._parquet_file(index), columns=[self._columns.label])
        return table.column(self._columns.label).to_pylist()

    def read_row(self, index: int, row: int) -> RawSample:
        """Read one row of a local Parquet shard; only its row group is read.

        Args:
            index: Which shard.
            row: Which of its rows.

        Raises:
            ValueError: The shard is no Parquet file on this machine.
            IndexError: There is no such row.
        """
        with pq.ParquetFile(self._parquet_file(index)) as shard:
            place = row
            for group in range(shard.metadata.num_row_groups):
                size = shard.metadata.row_group(group).num_rows
                if place < size:
                    found = shard.read_row_group(group, columns=self._columns.used).slice(place, 1).to_pylist()[0]
                    return self._sample(index, row, found)
                place -= size
        raise IndexError(f"row {row} does not exist in {self.shard_names[index]}")

    def _parquet_file(self, index: int) -> str:
        file = self._files[index] if self._files else self.shard_names[index]
        if not self._files or "://" in file or not file.endswith(".parquet"):
            raise ValueError(f"{file} is no Parquet file on this machine, whose rows can be read in any order")
        return file

    def read_bytes(self, sample: RawSample) -> bytes:
        """Return the encoded video or sound of a sample, from wherever it is stored.

        Args:
            sample: A row of this source.

        Raises:
            BadVideoError: The row holds neither bytes nor a path.
            UnsafePathError: The path leads out of the folder of the shards, or to a local file from elsewhere.
            OSError: The path cannot be read.
        """
        if sample.data is not None:
            return sample.data
        if sample.path is None:
            raise BadVideoError("the row holds neither bytes nor a path")
        self._check_path(sample.path)
        with xopen(sample.path, "rb", download_config=DownloadConfig(token=self._token)) as file:
            return file.read()

    def _check_path(self, path: str) -> None:
        """Refuse a path in a row that leads out of the folder of the shards; who wrote the row is not known."""
        bases = [base for base in self._bases if path.startswith(f"{base}/")]
        inside = min((path[len(base) + 1 :] for base in bases), key=len, default=path)
        # The outermost part of a chained address, zip://clip.mp4::https://host/clips.zip, is what is opened first.
        scheme = path.rpartition("::")[2].partition("://")[0] if "://" in path else None
        local = scheme is None or scheme in ("file", "local")
        if ".." in inside.replace("\\", "/").split("/") or (local and not bases):
            raise UnsafePathError(
                f"the row names the file {path}, which is not beside its shard; move it there, or store its bytes"
            )

    def _sample(self, index: int, row: int, values: dict[str, Any]) -> RawSample:
        """Bring the values of a row into one form."""

        def value(name: str | None) -> Any:
            return None if name is None else values[name]

        video = values[self._columns.video] or {"bytes": None, "path": None}
        shard = self.shard_names[index]
        path = video["path"]
        if video["bytes"] is None and path is not None and "://" not in path and not PurePosixPath(path).is_absolute():
            path = f"{self._bases[index]}/{path}"
        clip_id = value(self._columns.clip_id)
        return RawSample(
            shard=shard,
            clip_id=f"{shard}:{row}" if clip_id is None else str(clip_id),
            data=video["bytes"],
            path=path,
            label=value(self._columns.label),
            caption=value(self._columns.caption),
            sha256=value(self._columns.sha256),
        )


def open_source(
    path: str | Path,
    split: str = "train",
    name: str | None = None,
    video_column: str | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> VideoSource:
    """Open shards on disk or a data set of the Hub; nothing is downloaded but what is read.

    Args:
        path: A folder, a file or a glob pattern of `.parquet` or WebDataset `.tar` shards (also as a URL that fsspec
            knows), or the id of a data set on the Hub. `blank://80000` stands for that many clips without any video.
        split: Which split. On disk it selects files named `<split>-00000-of-00008...`; files with other names count as
            the split "train".
        name: Configuration of a data set on the Hub.
        video_column: Column of the videos or sounds; by default the column of type Video, or a tar's mp4, webm, avi,
            mkv or mov, and where there is none, the column of type Image, then Audio, or a tar's flac, mp3, wav, ....
        revision: Branch, tag or commit of a data set on the Hub.
        token: Access token of a private data set on the Hub.

    Returns:
        The source. Labels come from a column `label`, `labels` or `cls`, captions from `caption`, `txt` or `text`, ids
        from `clip_id` or `__key__` (otherwise "shard:row"), checksums from `sha256`.

    Raises:
        FileNotFoundError: The folder does not exist or holds no shard, or the pattern matches nothing.
        ValueError: The split does not exist, shards are missing or mixed, or there is no video column.
    """
    text = str(path)
    if text.startswith("blank://"):
        from tubelets.data.sources.blank import BlankSource

        return BlankSource.parse(text)
    if "://" in text:
        return _open_files(text, [text], video_column, token)
    files = _local_files(text)
    if files is None:
        return _open_hub(text, split, name, video_column, revision, token)
    chosen = _files_of_split(files, split, text, complete=Path(text).is_dir())
    return _open_files(text, chosen, video_column, token)


def _local_files(path: str) -> list[str] | None:
    """Return the shard files that `path` means, None when it can only be the id of a data set on the Hub."""
    if Path(path).is_dir():
        candidates = [str(file) for file in Path(path).iterdir() if not file.name.startswith(".")]
    elif Path(path).is_file():
        candidates = [path]
    elif glob.has_magic(path):
        candidates = glob.glob(path, recursive=True)
    elif _HUB_ID.fullmatch(path):
        return None
    else:
        raise FileNotFoundError(
            f"{path} does not exist; give a folder, file or pattern of shards, or a Hub data set id"
        )
    files = sorted(file for file in candidates if Path(file).suffix in _BUILDERS)
    if not files:
        raise FileNotFoundError(f"{path} holds no .parquet or .tar shard; build shards with scripts/make_shards.py")
    return files


def _files_of_split(files: list[str], split: str, where: str, *, complete: bool) -> list[str]:
    """Choose the files of a split; `complete` refuses gaps in their numbering."""
    named: dict[str, list[str]] = {}
    for file in files:
        named.setdefault(split_of(Path(file).name) or "train", []).append(file)
    if split not in named:
        raise ValueError(f"{where} has no split {split!r}; its splits are {sorted(named)}")
    chosen = named[split]
    if len({Path(file).suffix for file in chosen}) > 1:
        raise ValueError(f"{where} mixes .parquet and .tar shards; select one kind with a pattern such as *.parquet")
    if complete and (absent := missing_shards([Path(file).name for file in chosen])):
        raise ValueError(
            f"{where} lacks {len(absent)} shards of split {split!r}, first {absent[0]}; finish building them"
        )
    return chosen


def _open_files(where: str, files: list[str], video_column: str | None, token: str | None) -> VideoSource:
    """Open shard files through `datasets`."""
    suffix = PurePosixPath(files[0]).suffix
    if suffix not in _BUILDERS:
        raise ValueError(f"{where} must end in one of {sorted(_BUILDERS)}")
    # Names of existing files are no patterns, even if a folder is called "[1]".
    files = [file if "://" in file else Path(file).absolute().as_posix() for file in files]
    literal = [file if "://" in file else glob.escape(file) for file in files]
    dataset = load_dataset(_BUILDERS[suffix], data_files={"train": literal}, split="train", streaming=True, token=token)
    columns = _Columns.find(dict(dataset.features), video_column, where)
    if dataset.num_shards == len(files):
        return VideoSource(dataset, columns, [PurePosixPath(file).name for file in files], files=files, token=token)
    # The pattern of a URL was expanded by `datasets`, which does not tell the names.
    names = [f"{PurePosixPath(where).name}[{index}]" for index in range(dataset.num_shards)]
    return VideoSource(dataset, columns, names, base=where.rpartition("/")[0], token=token)


def _open_hub(
    repository: str, split: str, name: str | None, video_column: str | None, revision: str | None, token: str | None
) -> VideoSource:
    """Open a data set of the Hub by its id."""
    dataset = load_dataset(repository, name=name, split=split, revision=revision, token=token, streaming=True)
    if dataset.features is None:
        raise ValueError(f"{repository} does not state its columns; convert it to Parquet shards first")
    columns = _Columns.find(dict(dataset.features), video_column, repository)
    names = [f"{repository}[{index}]" for index in range(dataset.num_shards)]
    base = f"hf://datasets/{repository}" + (f"@{revision}" if revision else "")
    return VideoSource(dataset, columns, names, base=base, token=token)


def _find_video(features: dict[str, Any], where: str) -> str:
    """Return the one column that holds videos; without any, images, which are videos of one frame, or else sounds."""

    def typed(kind: type) -> list[str]:
        return [column for column, feature in features.items() if isinstance(feature, kind)]

    def named(keys: tuple[str, ...]) -> list[str]:
        return [column for column in features if column.rpartition(".")[2].lower() in keys]

    found = typed(Video) or named(_VIDEO_KEYS) or typed(Image) or typed(Audio) or named(_AUDIO_KEYS)
    if len(found) != 1:
        raise ValueError(
            f"{where} has {len(found)} columns of video or sound {found} among {list(features)}; name the right one "
            "as video_column"
        )
    return found[0]


def _first_present(wanted: Sequence[str], columns: Sequence[str]) -> str | None:
    """Return the first of the wanted names that is a column."""
    return next((name for name in wanted if name in columns), None)
