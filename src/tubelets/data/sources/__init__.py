"""Where samples come from: shards, folders, the Hub, and draws from other sources."""
