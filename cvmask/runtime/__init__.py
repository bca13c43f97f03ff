"""The only place that touches cv2.dnn."""
