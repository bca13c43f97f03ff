"""Frames from any source, through the model, into any output."""
