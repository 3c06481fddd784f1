"""Request and response objects, as WIRE.md describes them. One module a noun."""
