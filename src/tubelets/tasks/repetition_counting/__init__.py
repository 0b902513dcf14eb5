"""Repetition counting: frames of a state, decoding and metrics."""
