"""Heads that fit any backbone."""
