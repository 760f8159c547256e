"""The text of each language as one line of bytes, which is cut into units of work and those into shards."""
