"""GARE: text-video retrieval with pair-specific semantic increments."""
