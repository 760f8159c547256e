"""The documents, and the code that writes the generated ones."""
