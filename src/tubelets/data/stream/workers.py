"""Loader workers outlive the signals that ask a run to stop, so that the run can still save."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Windows has neither user signals nor masks.
STOP_SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") if name in signal.Signals.__members__
)

_CHECK_SECONDS = 1.0


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold back the stop signals while workers start; a signal in between arrives afterwards.

    Workers inherit the mask, so that none is ended before `ignore_stop_signals` ran in it.

    Example:
        >>> with held_signals():
        ...     signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        True
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_stop_signals(worker: int = 0) -> None:
    """Let a loader worker ignore signals that are meant for its run: a `worker_init_fn`, called in the worker.

    SLURM, systemd and a terminal send a signal to all processes of a run. The main process then saves and ends its
    workers. They end with its SIGTERM, and also when it is gone.

    Args:
        worker: number of the worker; not used.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigtimedwait"):
        # Who sent a signal is only known to a thread that waits for it while it is blocked; ignored ones never come.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(STOP_SIGNALS) - {signal.SIGTERM})


def _end_with_parent() -> None:
    """End this process when the one that started it says so, or is gone."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        received = signal.sigtimedwait({signal.SIGTERM}, _CHECK_SECONDS)
        if received is not None and received.si_pid == parent.pid:
            break
    os._exit(0)
