"""The contract between the two stages: what a row, a vocabulary and a manifest are.

`pipeline` writes them, `trainer` reads them, and neither imports the other. This
package imports neither Beam nor torch, so either stage's image can hold it.
"""

__version__ = "0.1.0"
SCHEMA_VERSION = 3
