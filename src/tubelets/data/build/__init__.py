"""Build shards from files: verified, optionally re-encoded, resumable."""
