"""WebDataset tars with undecoded arrays: `datasets` would load .npy and .npz members and lose their checksums."""

from collections.abc import Sequence

from datasets import DownloadConfig, IterableDataset
from datasets.data_files import DataFilesDict
from datasets.packaged_modules.webdataset.webdataset import WebDataset

_KEPT_AS_BYTES = frozenset({"npy", "npz", "pth", "pyd"})


class _RawTars(WebDataset):
    DECODERS = {suffix: decode for suffix, decode in WebDataset.DECODERS.items() if suffix not in _KEPT_AS_BYTES}


def open_tars(files: Sequence[str], token: str | None = None) -> IterableDataset:
    """Stream the samples of tars: members with the same name and different suffixes are the columns of a row.

    Args:
        files: Paths, patterns or URLs.
        token: Access token of a private Hub data set.

    Returns:
        A data set with one shard per tar.
    """
    found = DataFilesDict.from_patterns({"train": list(files)}, download_config=DownloadConfig(token=token))
    builder = _RawTars(dataset_name="webdataset", hash="tubelets", data_files=found, token=token)
    return builder.as_streaming_dataset(split="train")
