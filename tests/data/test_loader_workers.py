"""Workers of a loader, when signals of a scheduler or of their own process reach them."""

import multiprocessing
import subprocess
import time

from tubelets.data.modalities.clips import ClipSpec
from tubelets.data.sources.blank import BlankSource
from tubelets.data.stream.clip_stream import ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.stream.workers import STOP_SIGNALS


def test_workers_outlive_signals_of_others_and_end_when_their_process_says_so() -> None:
    stream = ClipStream(BlankSource(64), ClipSpec(num_frames=2), repeat=True, batch_size=2, split="samples")
    before = set(multiprocessing.active_children())
    batches = iter(ClipLoader(stream, num_workers=2))
    next(batches)
    workers = [child for child in multiprocessing.active_children() if child not in before]
    assert len(workers) == 2
    for number in STOP_SIGNALS:
        # From another process, as a scheduler sends them.
        subprocess.run(["kill", f"-{number.name[3:]}", *(str(worker.pid) for worker in workers)], check=True)
    time.sleep(0.3)
    assert len([next(batches)["clip_id"] for _ in range(12)]) == 12
    assert all(worker.is_alive() for worker in workers)
    for worker in workers:
        worker.terminate()
        worker.join(10)
    assert [worker.exitcode for worker in workers] == [0, 0]
