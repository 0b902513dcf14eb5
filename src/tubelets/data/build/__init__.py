"""Builds shards from files: checked, re-encoded where asked, resumable."""
