"""One module for every task of the catalogue."""
