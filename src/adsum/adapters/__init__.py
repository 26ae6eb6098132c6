"""The ports' implementations: one vendor each, strangers to each other."""
