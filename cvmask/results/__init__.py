"""The objects found in a frame, and the forms they can be converted to."""
