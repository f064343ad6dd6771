"""The version, in one place: the package, the image and the documents take it from here."""

__version__ = "0.2.0"
