"""The operations, and the table that lists them."""
