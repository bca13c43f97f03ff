"""A live page and an HTTP interface, on the same loop as everything else; needs FastAPI and uvicorn."""
