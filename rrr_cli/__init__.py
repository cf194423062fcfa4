"""rrr: a language model improves itself from nothing but a verifier's yes or no."""

__version__ = "0.1.0"
