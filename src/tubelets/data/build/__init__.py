"""Building shards from files; nothing that reads shards imports this."""
