"""Names, versions and the records that the other packages share."""
