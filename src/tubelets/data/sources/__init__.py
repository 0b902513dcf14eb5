"""Sources of samples: shards, folders, the Hub, and subsets of other sources."""
