"""Looks for what is wrong with a home, its daemon and its broker; changes nothing."""
