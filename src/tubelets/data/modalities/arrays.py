"""Read arrays from untrusted files: NumPy formats without pickle, and safetensors."""

import io
import math
import zipfile
from collections.abc import Collection

import numpy as np

from tubelets.data.modalities.modality import BadMediumError

MAX_BYTES = 2**31
"""Maximum array size in bytes; the size in the header is checked before memory is allocated."""


def read_array(data: bytes, name: str, key: str | None = None) -> np.ndarray:
    """Read an array from the bytes of a .npy, .npz or .safetensors file.

    Args:
        data: The bytes; the format is detected from their start.
        name: Name in error messages.
        key: Name of the array in a file with several; None reads the only one.

    Returns:
        A numeric array.

    Raises:
        BadMediumError: The file is corrupt, larger than `MAX_BYTES`, contains Python objects, or lacks the array.

    Example:
        >>> file = io.BytesIO()
        >>> np.save(file, np.zeros((2, 3), np.float32))
        >>> read_array(file.getvalue(), "joints").shape
        (2, 3)
    """
    try:
        if data[:6] == b"\x93NUMPY":
            found = _read_npy(data, name)
        elif data[:2] == b"PK":
            found = _read_npz(data, name, key)
        else:
            from safetensors.numpy import load

            entries = load(data)
            found = entries[_entry(entries, name, key)]
    except BadMediumError:
        raise
    # safetensors raises its own exception class, and corrupt headers raise various parser errors.
    except Exception as error:
        raise BadMediumError(f"{name}: cannot be read as .npy, .npz or .safetensors ({error})") from error
    if found.dtype.kind not in "biuf":
        raise BadMediumError(f"{name}: values have type {found.dtype}; store a numeric array")
    return found


def _read_npy(data: bytes, name: str) -> np.ndarray:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    stated, there = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if dtype.hasobject:
        raise BadMediumError(f"{name}: contains pickled Python objects, which are never loaded; store a numeric array")
    if stated != there or stated > MAX_BYTES:
        raise BadMediumError(f"{name}: the header states {stated} bytes (at most {MAX_BYTES}), got {there}")
    return np.load(io.BytesIO(data), allow_pickle=False)


def _read_npz(data: bytes, name: str, key: str | None) -> np.ndarray:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
        chosen = _entry(sizes, name, key)
        if sizes[chosen] > MAX_BYTES:
            raise BadMediumError(f"{name}: array {chosen!r} has {sizes[chosen]} bytes, more than {MAX_BYTES}")
        return _read_npy(archive.read(f"{chosen}.npy"), name)


def _entry(entries: Collection[str], name: str, key: str | None) -> str:
    """Select the requested array, or the only one."""
    if key is not None and key in entries:
        return key
    if len(entries) != 1:
        raise BadMediumError(
            f"{name}: contains the arrays {sorted(entries)}; store a single one, or name one of them {key!r}"
        )
    return next(iter(entries))
