"""Scaling methods of your own: one file each, found by itself. See the README."""
