"""What was found in a frame, and the forms that it takes."""
