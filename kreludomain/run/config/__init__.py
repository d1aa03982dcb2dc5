"""Configuration files: their text, their keys, the methods and samples that they name."""
