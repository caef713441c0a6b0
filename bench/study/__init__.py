"""One experiment, from its request to its rows: checks, plan, execution, and shards."""
