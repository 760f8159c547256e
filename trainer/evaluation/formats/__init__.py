"""Readers of text and labelled files, one module per format; errors name the file and the line."""
