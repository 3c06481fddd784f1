"""Modelling code that artifacts carry, so that they load without Tailor: one self-contained module a head."""
