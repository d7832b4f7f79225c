"""Sealed boxes, their keys, and the documents that contain sealed values."""
