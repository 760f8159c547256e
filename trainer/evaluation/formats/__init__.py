"""Files that people have: each module reads one format and names the file and the line of a fault."""
