import gc
import weakref

from tubelets.data.modalities.video import open_video
from videos import make_video


def test_a_closed_reader_is_freed_at_once() -> None:
    """A decoder that waits for the garbage collector can be inherited, threads missing, by a forked worker."""
    gc.collect()
    gc.disable()
    try:
        reader = open_video(make_video(12, 48, 64), backend="pyav")
        with reader:
            reader.get_frames([3, 7])
        gone = weakref.ref(reader)
        del reader
        assert gone() is None
    finally:
        gc.enable()
