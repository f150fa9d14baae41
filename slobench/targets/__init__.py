"""Starting, reaching, watching and stopping the server under test.

This file imports nothing: the guard of every server is a module of this package, and must start fast.
"""
