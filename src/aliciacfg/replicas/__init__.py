"""Several daemons that serve one home: which of them leads, and whether each is ready."""
