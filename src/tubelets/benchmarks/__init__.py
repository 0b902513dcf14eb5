"""Benchmarks generated from real footage and sounds, with labels for motion or sound."""
