"""Pictures made from frames and detections. Never imports the runtime."""
