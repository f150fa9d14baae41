"""Bytes in, events out: what a reply was, without any I/O."""
