"""Temporal action detection: metrics of segments in untrimmed videos."""
