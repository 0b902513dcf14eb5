"""The parts of `scripts/check_gpu.py`: does the package work on this machine's accelerator, and is it fast there?

A part is a module with `run(session)`; it adds results to the session. `PARTS` in `session` names them in order.
"""
