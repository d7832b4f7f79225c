"""Sealed boxes, their keys, and documents that hold them."""
