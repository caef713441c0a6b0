"""One experiment from its variants to its rows."""
