"""Read files of the Hub and of web servers with `fsspec`, as `datasets` does."""

from tubelets.data.modalities.video_readers import BadVideoError, first_line


def is_address(source: object) -> bool:
    """Whether a source is an address such as `https://...`, `hf://...` or `file://...`, and not bytes or a local path.

    Example:
        >>> is_address("hf://datasets/user/name/clip.mp4"), is_address("clip.mp4"), is_address(b"https://")
        (True, False, False)
    """
    return isinstance(source, str) and "://" in source


def read_address(address: str) -> bytes:
    """Fetch a file.

    Args:
        address: what `fsspec` understands, such as `https://...`, or `hf://datasets/user/name/clip.mp4` with the token
            of the environment; archives can be chained, as in `zip://clip.mp4::https://host/clips.zip`.

    Returns:
        The bytes of the file.

    Raises:
        BadVideoError: if it cannot be fetched.
    """
    import fsspec

    try:
        with fsspec.open(address, "rb") as file:
            data: bytes = file.read()
            return data
    # Each file system raises errors of its own: of aiohttp, of requests, OSError, ValueError for an unknown scheme.
    except Exception as error:
        raise BadVideoError(
            f"{address}: cannot be fetched ({type(error).__name__}: {first_line(error)}); check the address and the "
            "network, or pass a local file"
        ) from error
