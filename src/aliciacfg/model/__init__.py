"""Names, versions, and the records that the store keeps."""
