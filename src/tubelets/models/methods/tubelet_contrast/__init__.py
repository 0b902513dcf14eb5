"""Tubelet-Contrast: two clips of different videos are alike because the same patches move over them."""
