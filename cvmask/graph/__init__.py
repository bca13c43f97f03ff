"""TensorFlow graphs as data: reading, checking, converting, splitting. Never imports cv2."""
