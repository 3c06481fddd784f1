"""One module for every adaptation method of the catalogue."""
