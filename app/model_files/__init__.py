"""Transformers directories as they come from outside: unpacked, checked, described. Nothing in them is ever run.

Works on files alone, so that untrusted bytes can be read in a bounded child process that knows no database.
"""
