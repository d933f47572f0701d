"""Labelled images from named sources. Import its modules: ``place`` needs no torch."""
